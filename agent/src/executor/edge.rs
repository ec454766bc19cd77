//! nginx's part of making ready, of switching, and of standing by: one at a time, against one memory of
//! what nginx should serve, so that a reload for one service never undoes the switch of another.

use crate::nginx::{Flag, Flags, Proxy, ProxyError, Shape, SwitchTimes};
use cutover::ids::ServiceName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where each service's traffic goes.
pub type Routes = BTreeMap<ServiceName, Flag>;

/// nginx, with its users in a queue.
#[derive(Clone)]
pub struct Edge {
    proxy: Arc<dyn Proxy>,
    /// Where traffic goes. Held for as long as nginx is being worked on.
    serving: Arc<tokio::sync::Mutex<Routes>>,
    /// The newest shape anyone asked for.
    shape: Arc<Mutex<Shape>>,
    /// The one nginx was last brought into.
    in_force: Arc<Mutex<Option<Shape>>>,
}

impl Edge {
    /// The only user of this nginx.
    pub fn new(proxy: Arc<dyn Proxy>, serving: Routes) -> Self {
        Self {
            proxy,
            serving: Arc::new(tokio::sync::Mutex::new(serving)),
            shape: Arc::default(),
            in_force: Arc::default(),
        }
    }

    /// From now on nginx should have this shape. Takes effect with the next call of another method.
    pub fn want(&self, shape: Shape) {
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner) = shape;
    }

    fn wanted(&self) -> Shape {
        self.shape.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything of a switch that can fail before it: the config would survive a restart, the shape is in force,
    /// and the switch to `after` is laid out on disk.
    pub async fn make_ready(&self, after: &Routes, is_rollback: bool) -> Result<(), ProxyError> {
        let serving = self.serving.lock().await;
        let shape = self.wanted();
        self.proxy.ensure_running().await?;
        if !is_rollback {
            // Before a new shape overwrites it: whoever spoiled it has to know.
            self.proxy.validate().await?;
        }
        self.bring_into_shape(&shape, &serving).await?;
        let mut then = serving.clone();
        then.extend(after.iter().map(|(name, slot)| (name.clone(), *slot)));
        self.proxy.stage(&flags(&shape, &then)).await
    }

    /// A service that is new in the shape needs its flag before nginx knows of it: without one, nginx
    /// would take the switch for lost.
    async fn bring_into_shape(&self, shape: &Shape, serving: &Routes) -> Result<(), ProxyError> {
        let flags = flags(shape, serving);
        // A switch that cannot be read is no reason to leave it so.
        if self.proxy.on_disk().await.ok().flatten().as_ref() != Some(&flags) {
            self.proxy.restore(&flags).await?;
        }
        self.proxy.reshape(shape).await?;
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = Some(shape.clone());
        Ok(())
    }

    /// Whether nginx answers where this shape says, and nowhere else. Routes that came with a deployment stay
    /// if it failed, and those it replaced stay if it did not, until somebody looks. Addresses of berths where
    /// nothing stands can wait for the next deployment.
    fn has_routes_of(&self, shape: &Shape) -> bool {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = |shape: &Shape| {
            let each = shape.services.iter().map(|(name, service)| (name.clone(), service.routes.clone()));
            each.collect::<BTreeMap<_, _>>()
        };
        in_force.as_ref().is_some_and(|in_force| routes(in_force) == routes(shape))
    }

    /// Moves the host's traffic.
    pub async fn switch(&self, to: Routes) -> Result<SwitchTimes, ProxyError> {
        let mut serving = self.serving.lock().await;
        let flags = flags(&self.wanted(), &to);
        // Also if it fails: this is what was decided, and a look after nginx must not lead back.
        *serving = to;
        self.proxy.switch(&flags).await
    }

    /// Before anything else after a start: the switch as the journal has it, then nginx, then its shape.
    pub async fn recover(&self) -> Result<(), ProxyError> {
        let serving = self.serving.lock().await;
        let shape = self.wanted();
        self.proxy.restore(&flags(&shape, &serving)).await?;
        // Starts it too: with another config, if the one that is there is why it does not run.
        self.bring_into_shape(&shape, &serving).await
    }

    /// Whether users get what they should, whatever else is wrong.
    pub async fn serves_what_it_should(&self) -> Result<(), ProxyError> {
        let wanted = self.serving.lock().await.clone();
        let observed = self.proxy.observe().await?;
        let goes_astray = |(name, flag): &(&ServiceName, &Flag)| observed.services.get(*name) != Some(&Some(**flag));
        match wanted.iter().find(goes_astray) {
            None => Ok(()),
            Some((name, flag)) => Err(ProxyError::NotFollowing {
                expected: format!("{name} at generation {}", flag.generation),
                answered: format!("{:?}", observed.services.get(name)),
            }),
        }
    }

    /// Looks whether nginx runs and serves what it should; brings it back where that can be done.
    pub async fn look_after(&self) -> Result<(), ProxyError> {
        let Ok(serving) = self.serving.try_lock() else { return Ok(()) };
        let shape = self.wanted();
        let flags = flags(&shape, &serving);
        match self.proxy.ensure_running().await {
            Ok(()) => match self.proxy.observe().await {
                Ok(observed) if observed == flags && self.has_routes_of(&shape) => return Ok(()),
                Ok(observed) if observed == flags => tracing::info!("nginx gets its routes as they are served"),
                Ok(observed) => {
                    tracing::warn!(?observed, expected = ?flags, "nginx serves something else; putting it right")
                }
                Err(error) => {
                    tracing::warn!(%error, "nginx does not say what it serves; putting it right");
                    // What the agent may read its nginx may not: a switch that somebody closed is opened again.
                    if let Err(error) = self.proxy.restore(&flags).await {
                        tracing::warn!(%error, "the switch cannot be made anew");
                    }
                }
            },
            Err(error) => tracing::warn!(%error, "nginx does not run; putting its config right"),
        }
        self.bring_into_shape(&shape, &serving).await?;
        self.proxy.switch(&flags).await.map(|_| ())
    }
}

fn flags(shape: &Shape, serving: &Routes) -> Flags {
    let services = shape.services.keys().map(|name| (name.clone(), serving.get(name).copied()));
    Flags { services: services.collect() }
}
