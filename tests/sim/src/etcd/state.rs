//! What etcd knows: keys at revisions, the changes that led there, leases. Nothing here waits.

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbKeyValue, PbPutRequest, PbPutResponse, PbRangeRequest,
    PbRangeResponse, PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp,
    PbTxnResponse,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// As etcd's own defaults.
const OPERATIONS_MAX: usize = 128;
const REQUEST_BYTES_MAX: usize = 1536 * 1024;

/// What a write did, as a witness sees it at that moment.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The revision it made; the newest one, if it changed nothing.
    pub revision: u64,
    /// The keys the transaction compared: key, and the create revision it demanded, if it did.
    pub guards: Vec<(String, Option<i64>)>,
    /// In order; none if a removal found nothing.
    pub changes: Vec<Change>,
}

/// One key's change.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which.
    pub key: String,
    /// None: it was removed.
    pub value: Option<Vec<u8>>,
    /// When it was made.
    pub create_revision: u64,
}

/// Told of everything that is applied, while it is applied.
pub type Witness = Arc<dyn Fn(&Applied) + Send + Sync>;

/// A change for watches.
#[derive(Debug, Clone)]
pub struct Logged {
    /// When.
    pub revision: i64,
    /// Whether the key was removed.
    pub is_deleted: bool,
    /// The key as it is now; of one that was removed, key and revision only.
    pub pair: PbKeyValue,
}

struct Lease {
    ttl: Duration,
    ends: Duration,
    keys: BTreeSet<Vec<u8>>,
    /// It lives on for so long beyond its end: etcd's leader changed.
    grace: Duration,
}

/// The keys and their past.
pub struct State {
    now: Duration,
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Vec<u8>, PbKeyValue>,
    log: Vec<Logged>,
    leases: BTreeMap<i64, Lease>,
    last_lease: i64,
    is_full: bool,
    witness: Option<Witness>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            now: Duration::ZERO,
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            log: Vec::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            is_full: false,
            witness: None,
        }
    }

    /// Who is told of everything from now on.
    pub fn set_witness(&mut self, witness: Witness) {
        self.witness = Some(witness);
    }

    /// Over its quota from now on, or not.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// The present revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Up to where the past is gone.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// A key's value and the revisions at which it was made and last written.
    pub fn get(&self, key: &str) -> Option<(&[u8], u64, u64)> {
        let pair = self.keys.get(key.as_bytes())?;
        Some((&pair.value, pair.create_revision.unsigned_abs(), pair.mod_revision.unsigned_abs()))
    }

    /// Every key that starts so, with its value and the revision of its last change.
    pub fn starting_with(&self, prefix: &str) -> Vec<(String, Vec<u8>, u64)> {
        let of =
            self.keys.range(prefix.as_bytes().to_vec()..).take_while(|(key, _)| key.starts_with(prefix.as_bytes()));
        of.map(|(key, pair)| (text(key), pair.value.clone(), pair.mod_revision.unsigned_abs())).collect()
    }

    /// Every lease that is there lives on for that much longer than its time.
    pub fn extend_leases(&mut self, by: Duration) {
        self.leases.values_mut().for_each(|lease| lease.grace = by);
    }

    pub(super) fn compact(&mut self) -> u64 {
        self.compacted = self.revision;
        self.log.clear();
        self.revision.unsigned_abs() + 1
    }

    pub(super) fn expire(&mut self, now: Duration) -> usize {
        self.now = now;
        let over: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.ends + lease.grace <= now).map(|(id, _)| *id).collect();
        over.iter().for_each(|id| self.drop_lease(*id));
        over.len()
    }

    pub(super) fn end_leases(&mut self) -> bool {
        let all: Vec<_> = self.leases.keys().copied().collect();
        all.iter().for_each(|id| self.drop_lease(*id));
        !all.is_empty()
    }

    fn drop_lease(&mut self, id: i64) {
        let Some(lease) = self.leases.remove(&id) else { return };
        let mut write = Write::begin(self.revision);
        for key in lease.keys {
            write.delete(&mut self.keys, &key);
        }
        self.finish(write, Vec::new());
    }

    pub(super) fn grant(&mut self, wanted: i64, ttl_seconds: i64) -> Result<i64, Status> {
        if self.is_full {
            return Err(no_space());
        }
        let id = if wanted == 0 {
            self.last_lease += 1;
            self.last_lease
        } else {
            wanted
        };
        let ttl = Duration::from_secs(ttl_seconds.unsigned_abs());
        let lease = Lease { ttl, ends: self.now + ttl, keys: BTreeSet::new(), grace: Duration::ZERO };
        self.leases.insert(id, lease);
        Ok(id)
    }

    /// Seconds the lease lives from now on; none if it is gone.
    pub(super) fn renew(&mut self, id: i64) -> Option<u64> {
        let lease = self.leases.get_mut(&id)?;
        lease.ends = self.now + lease.ttl;
        Some(lease.ttl.as_secs())
    }

    pub(super) fn left(&self, id: i64) -> Option<(u64, u64)> {
        let lease = self.leases.get(&id)?;
        Some((lease.ttl.as_secs(), (lease.ends + lease.grace).saturating_sub(self.now).as_secs()))
    }

    pub(super) fn revoke(&mut self, id: i64) -> Result<(), Status> {
        if !self.leases.contains_key(&id) {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        self.drop_lease(id);
        Ok(())
    }

    pub(super) fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Status> {
        if request.revision > self.revision {
            return Err(Status::out_of_range("etcdserver: mvcc: required revision is a future revision"));
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(Status::out_of_range("etcdserver: mvcc: required revision has been compacted"));
        }
        if request.revision > 0 && !request.count_only {
            return Err(Status::unimplemented("the past can only be counted here"));
        }
        let found = self.keys.iter().filter(|(key, _)| covers(&request.key, &request.range_end, key));
        let all: Vec<_> = found.map(|(_, pair)| pair.clone()).collect();
        let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
        let kvs = if request.count_only { Vec::new() } else { all };
        Ok(PbRangeResponse { header: Some(super::header(self)), kvs, more: false, count })
    }

    pub(super) fn txn(&mut self, request: PbTxnRequest) -> Result<PbTxnResponse, Status> {
        check(&request)?;
        let PbTxnRequest { compare, success, failure } = request;
        let has_put =
            |ops: &[PbTxnRequestOp]| ops.iter().any(|op| matches!(op.request, Some(PbTxnOpRequest::RequestPut(_))));
        if self.is_full && (has_put(&success) || has_put(&failure)) {
            return Err(no_space());
        }
        let succeeded = compare.iter().all(|compare| self.holds(compare));
        let operations = if succeeded { success } else { failure };
        let mut write = Write::begin(self.revision);
        let mut responses = Vec::new();
        for operation in operations {
            let response = match operation.request {
                Some(PbTxnOpRequest::RequestRange(range)) => PbTxnOpResponse::ResponseRange(self.range(&range)?),
                Some(PbTxnOpRequest::RequestPut(put)) => PbTxnOpResponse::ResponsePut(self.put(&mut write, put)?),
                Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                    PbTxnOpResponse::ResponseDeleteRange(self.delete(&mut write, &delete))
                }
                Some(PbTxnOpRequest::RequestTxn(_)) | None => {
                    return Err(Status::unimplemented("no transactions in transactions here"));
                }
            };
            responses.push(PbResponseOp { response: Some(response) });
        }
        let guards = compare.iter().filter(|_| succeeded).map(|compare| {
            let created = match compare.target_union {
                Some(PbTargetUnion::CreateRevision(revision)) => Some(revision),
                _ => None,
            };
            (text(&compare.key), created)
        });
        self.finish(write, guards.collect());
        Ok(PbTxnResponse { header: Some(super::header(self)), succeeded, responses })
    }

    fn put(&mut self, write: &mut Write, put: PbPutRequest) -> Result<PbPutResponse, Status> {
        if put.lease != 0 {
            let lease = self.leases.get_mut(&put.lease);
            let lease = lease.ok_or_else(|| Status::not_found("etcdserver: requested lease not found"))?;
            lease.keys.insert(put.key.clone());
        }
        write.put(&mut self.keys, put);
        Ok(PbPutResponse { header: None, prev_kv: None })
    }

    fn delete(&mut self, write: &mut Write, request: &PbDeleteRequest) -> PbDeleteResponse {
        let found = self.keys.keys().filter(|key| covers(&request.key, &request.range_end, key));
        let all: Vec<_> = found.cloned().collect();
        all.iter().for_each(|key| write.delete(&mut self.keys, key));
        PbDeleteResponse { header: None, deleted: i64::try_from(all.len()).unwrap_or(i64::MAX), prev_kvs: Vec::new() }
    }

    fn holds(&self, compare: &PbCompare) -> bool {
        let pair = self.keys.get(&compare.key);
        let equal = match &compare.target_union {
            Some(PbTargetUnion::CreateRevision(wanted)) => pair.map_or(0, |pair| pair.create_revision) == *wanted,
            Some(PbTargetUnion::ModRevision(wanted)) => pair.map_or(0, |pair| pair.mod_revision) == *wanted,
            Some(PbTargetUnion::Version(wanted)) => pair.map_or(0, |pair| pair.version) == *wanted,
            Some(PbTargetUnion::Value(wanted)) => pair.is_some_and(|pair| pair.value == *wanted),
            Some(PbTargetUnion::Lease(wanted)) => pair.map_or(0, |pair| pair.lease) == *wanted,
            None => false,
        };
        // 0 is EQUAL, the one the store uses.
        equal && compare.result == 0
    }

    fn finish(&mut self, write: Write, guards: Vec<(String, Option<i64>)>) {
        // What changes nothing, such as a removal of what is not there, has its place in the order and no revision.
        if !write.changes.is_empty() {
            self.revision = write.revision;
        }
        let changes = write.changes.iter().map(|logged| Change {
            key: text(&logged.pair.key),
            value: (!logged.is_deleted).then(|| logged.pair.value.clone()),
            create_revision: logged.pair.create_revision.unsigned_abs(),
        });
        let applied = Applied { revision: self.revision.unsigned_abs(), guards, changes: changes.collect() };
        self.log.extend(write.changes);
        for (key, lease) in write.unleased {
            if let Some(lease) = self.leases.get_mut(&lease) {
                lease.keys.remove(&key);
            }
        }
        if let Some(witness) = self.witness.clone() {
            witness(&applied);
        }
    }

    /// Changes of these keys from a revision on. None: some of it is forgotten.
    pub(super) fn since(&self, revision: i64, key: &[u8], range_end: &[u8]) -> Option<Vec<Logged>> {
        if revision <= self.compacted && revision <= self.revision {
            return None;
        }
        let first = self.log.partition_point(|logged| logged.revision < revision);
        let those = self.log[first..].iter().filter(|logged| covers(key, range_end, &logged.pair.key));
        Some(those.cloned().collect())
    }
}

/// A write under way: all of it has one revision.
struct Write {
    revision: i64,
    changes: Vec<Logged>,
    unleased: Vec<(Vec<u8>, i64)>,
}

impl Write {
    fn begin(revision: i64) -> Self {
        Self { revision: revision + 1, changes: Vec::new(), unleased: Vec::new() }
    }

    fn put(&mut self, keys: &mut BTreeMap<Vec<u8>, PbKeyValue>, put: PbPutRequest) {
        let before = keys.get(&put.key);
        if let Some(before) = before.filter(|before| before.lease != 0 && before.lease != put.lease) {
            self.unleased.push((put.key.clone(), before.lease));
        }
        let pair = PbKeyValue {
            key: put.key.clone(),
            create_revision: before.map_or(self.revision, |before| before.create_revision),
            mod_revision: self.revision,
            version: before.map_or(0, |before| before.version) + 1,
            value: put.value,
            lease: put.lease,
        };
        keys.insert(put.key, pair.clone());
        self.changes.push(Logged { revision: self.revision, is_deleted: false, pair });
    }

    fn delete(&mut self, keys: &mut BTreeMap<Vec<u8>, PbKeyValue>, key: &[u8]) {
        let Some(before) = keys.remove(key) else { return };
        if before.lease != 0 {
            self.unleased.push((key.to_vec(), before.lease));
        }
        let pair = PbKeyValue { key: key.to_vec(), mod_revision: self.revision, ..PbKeyValue::default() };
        self.changes.push(Logged { revision: self.revision, is_deleted: true, pair });
    }
}

fn check(request: &PbTxnRequest) -> Result<(), Status> {
    use prost_size::encoded_len;
    let most = request.compare.len().max(request.success.len()).max(request.failure.len());
    if most > OPERATIONS_MAX {
        return Err(Status::invalid_argument("etcdserver: too many operations in txn request"));
    }
    if encoded_len(request) > REQUEST_BYTES_MAX {
        return Err(Status::invalid_argument("etcdserver: request is too large"));
    }
    for operations in [&request.success, &request.failure] {
        let mut put = BTreeSet::new();
        for operation in operations {
            if let Some(PbTxnOpRequest::RequestPut(request)) = &operation.request
                && !put.insert(&request.key)
            {
                return Err(Status::invalid_argument("etcdserver: duplicate key given in txn request"));
            }
        }
    }
    Ok(())
}

/// The size of a request, near enough: keys and values.
mod prost_size {
    use super::{PbTxnOpRequest, PbTxnRequest};

    pub(super) fn encoded_len(request: &PbTxnRequest) -> usize {
        let compared: usize = request.compare.iter().map(|compare| compare.key.len() + 16).sum();
        let operations = request.success.iter().chain(&request.failure).map(|operation| match &operation.request {
            Some(PbTxnOpRequest::RequestPut(put)) => put.key.len() + put.value.len() + 16,
            Some(PbTxnOpRequest::RequestRange(range)) => range.key.len() + 16,
            Some(PbTxnOpRequest::RequestDeleteRange(delete)) => delete.key.len() + 16,
            Some(PbTxnOpRequest::RequestTxn(_)) | None => 0,
        });
        compared + operations.sum::<usize>()
    }
}

/// etcd's ranges: one key, all keys from it on (an end of one zero byte), or those below the end.
fn covers(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        [0] => candidate >= key,
        end => candidate >= key && candidate < end,
    }
}

fn no_space() -> Status {
    Status::resource_exhausted("etcdserver: mvcc: database space exceeded")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
