//! The trait on a real nginx, of either kind.

use super::probe::Probe;
use super::ready::ReadyDir;
use super::reload::{Instance, Wanted, bring};
use super::render::{self, Rendered, Settings};
use super::spare::SpareDir;
use super::switch::{SwitchDir, Turned};
use super::{Flags, Proxy, ProxyError, Readiness, Reshaped, Shape, SwitchTimes, files, observe, program};
use async_trait::async_trait;
use bgctl_proto::crashpoint;
use cutover::ids::ServiceName;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// nginx on this host.
pub(super) struct Nginx {
    settings: Settings,
    switch: SwitchDir,
    spare: SpareDir,
    ready: ReadyDir,
    instance: Box<dyn Instance>,
    probe: Probe,
    /// One change at a time.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// The services of the installed shape, once they were read.
    services: Mutex<Option<BTreeSet<ServiceName>>>,
    version: program::KnownVersion,
}

impl Nginx {
    /// An error: these settings cannot be rendered.
    pub(super) fn new(settings: Settings, instance: Box<dyn Instance>) -> Result<Self, ProxyError> {
        let nginx = Self {
            switch: SwitchDir::new(settings.switch_dir.clone()),
            spare: SpareDir::new(&settings.switch_dir),
            ready: ReadyDir::new(&settings.switch_dir),
            probe: Probe::new(settings.socket.clone()),
            instance,
            settings,
            changing: Default::default(),
            services: Default::default(),
            version: Default::default(),
        };
        nginx.render_empty().map(|_| nginx)
    }

    fn render(&self, shape: &Shape, settings: &Settings) -> Result<Rendered, ProxyError> {
        Ok(render::seal(&self.instance.wrap(render::body(shape, settings)?)?))
    }

    /// What a private nginx starts with when it knows no service yet.
    fn render_empty(&self) -> Result<Rendered, ProxyError> {
        self.render(&Shape::default(), &self.settings)
    }

    /// The services of the installed shape. None: no shape was ever installed.
    fn services(&self) -> Result<Option<BTreeSet<ServiceName>>, ProxyError> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if services.is_none() {
            let installed = files::read(self.instance.installed())?;
            *services = installed.map(|text| render::services(&text).collect());
        }
        Ok(services.clone())
    }

    fn forget_services(&self) {
        *self.services.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn check(&self, flags: &Flags) -> Result<(), ProxyError> {
        super::check_flags(&self.services()?.unwrap_or_default(), flags)
    }

    /// A service that is new to nginx answers 503 from its first request on, not "lost". Answers what the
    /// switch says of the shape's services. None: it cannot be read, and `restore` has to be called.
    async fn flag_newcomers(
        &self,
        shape: &Shape,
        before: Result<Option<Flags>, ProxyError>,
    ) -> Result<Option<Flags>, ProxyError> {
        let installed = self.services()?.unwrap_or_default();
        let mut flags = match before {
            Ok(Some(flags)) => flags,
            Ok(None) if installed.is_empty() => Flags::default(),
            Ok(None) | Err(_) => return Ok(None),
        };
        for name in shape.services.keys().filter(|name| !installed.contains(name)) {
            flags.services.entry(name.clone()).or_insert(None);
        }
        self.turn_and_sync(flags.clone()).await?;
        flags.services.retain(|name, _| shape.services.contains_key(name));
        Ok(Some(flags))
    }

    async fn turn_and_sync(&self, flags: Flags) -> Result<(), ProxyError> {
        let spare = self.spare.clone();
        self.disk(move |switch| {
            let turned = switch.turn(&flags)?;
            switch.sync()?;
            tidy(switch, &spare, turned.as_ref(), &flags);
            Ok(())
        })
        .await
    }

    /// File work, off the runtime's threads.
    async fn disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SwitchDir) -> Result<T, ProxyError> + Send + 'static,
    ) -> Result<T, ProxyError> {
        let switch = self.switch.clone();
        self.off_thread(move || work(&switch)).await
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ProxyError> + Send + 'static,
    ) -> Result<T, ProxyError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| {
            let path = self.switch.path().display().to_string();
            Err(ProxyError::File { operation: "work on", path, detail: error.to_string() })
        })
    }
}

/// What comes after a turn and is not part of it. What fails is met again at the next turn, and harms nobody until then.
fn tidy(switch: &SwitchDir, spare: &SpareDir, turned: Option<&Turned>, flags: &Flags) {
    spare.tell(flags);
    if let Some(Err(error)) = turned.map(|turned| switch.forget_old(turned)) {
        tracing::warn!(%error, "cannot look for old generations of the switch");
    }
}

#[async_trait]
impl Proxy for Nginx {
    async fn version(&self) -> Result<String, ProxyError> {
        self.version.of(self.instance.binary()).await
    }

    async fn ensure_running(&self) -> Result<(), ProxyError> {
        let _changing = self.changing.lock().await;
        self.instance.ensure_running(&self.render_empty()?).await
    }

    async fn restore(&self, flags: &Flags) -> Result<(), ProxyError> {
        let _changing = self.changing.lock().await;
        self.instance.mend()?;
        self.turn_and_sync(flags.clone()).await
    }

    async fn on_disk(&self) -> Result<Option<Flags>, ProxyError> {
        self.disk(SwitchDir::read).await
    }

    async fn reshape(&self, shape: &Shape) -> Result<Reshaped, ProxyError> {
        let _changing = self.changing.lock().await;
        let version = self.version.of(self.instance.binary()).await?;
        let keepalive_min_timeout = program::has_keepalive_min_timeout(&version);
        let rendered = self.render(shape, &Settings { keepalive_min_timeout, ..self.settings.clone() })?;
        let first = self.render_empty()?;
        let before = self.disk(SwitchDir::read).await;
        let flags = self.flag_newcomers(shape, before.clone()).await?;
        let wanted = Wanted { rendered: &rendered, first: &first, flags: flags.as_ref() };
        let brought = bring(&*self.instance, &self.probe, &wanted).await;
        // Whatever came of it, what is installed says it better than what was known before.
        self.forget_services();
        let flags = if brought.is_ok() { flags } else { before.ok().flatten() };
        if let Some(flags) = flags {
            self.turn_and_sync(flags).await?;
        }
        brought
    }

    async fn validate(&self) -> Result<(), ProxyError> {
        let _changing = self.changing.lock().await;
        self.instance.validate().await
    }

    async fn observe(&self) -> Result<Flags, ProxyError> {
        observe::observe(&self.probe, &self.services()?.unwrap_or_default()).await
    }

    async fn stage(&self, flags: &Flags) -> Result<(), ProxyError> {
        let _changing = self.changing.lock().await;
        self.check(flags)?;
        let flags = flags.clone();
        self.disk(move |switch| switch.stage(&flags)).await
    }

    async fn switch(&self, flags: &Flags) -> Result<SwitchTimes, ProxyError> {
        let changing = Arc::clone(&self.changing).lock_owned().await;
        self.check(flags)?;
        let start = Instant::now();
        let wanted = flags.clone();
        // The first question is asked over a connection that is there when the rename is done.
        let (early, turned) = tokio::join!(self.probe.connect(), self.disk(move |switch| switch.turn(&wanted)));
        let turned = turned?;
        crashpoint!("before_probe");
        let proven = observe::follow(&self.probe, early.ok(), flags).await;
        crashpoint!("after_probe");
        let renamed_at = turned.as_ref().map(|turned| turned.at);
        let times = SwitchTimes {
            renamed_at,
            rename: turned.as_ref().map_or(Duration::ZERO, |turned| turned.took),
            proof: renamed_at.unwrap_or(start).elapsed(),
        };
        // What was renamed is made durable also where nginx was not heard.
        self.disk(SwitchDir::sync).await?;
        let (switch, spare, flags) = (self.switch.clone(), self.spare.clone(), flags.clone());
        // Nobody waits for the rest but the next change.
        tokio::task::spawn_blocking(move || {
            tidy(&switch, &spare, turned.as_ref(), &flags);
            drop(changing);
        });
        proven.map(|()| times)
    }

    async fn tell_ready(&self, readiness: &Readiness) -> Result<(), ProxyError> {
        let (ready, readiness) = (self.ready.clone(), readiness.clone());
        self.off_thread(move || ready.tell(&readiness)).await
    }

    async fn told_ready(&self) -> Result<Readiness, ProxyError> {
        let ready = self.ready.clone();
        self.off_thread(move || ready.told()).await
    }

    async fn stop(&self) -> Result<(), ProxyError> {
        let _changing = self.changing.lock().await;
        self.instance.stop().await?;
        self.forget_services();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
