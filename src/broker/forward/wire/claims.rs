//! Operations on claims, and their answers, as brokers say them.

use super::{Kinds, Misread, Wire, kinds, only_kinds, peer, records, required};
use crate::model::{ClaimInfo, ClaimOperation, ClaimReply, NamespaceInfo};

records! {
    ClaimInfo = ClaimInfo { token, owner, completed, since_ms, expires_ms }
    NamespaceInfo = NamespaceInfo { id, name, window_ms, created_ms, live }
}

kinds! { ClaimOperation in claim_operation {
    with [
        Take = TakeClaim { namespace, owner, lease_ms; key },
        Complete = CompleteClaim { namespace, token, receipt; key },
        Release = ReleaseClaim { namespace, token; key },
        Renew = RenewClaim { namespace, token, lease_ms; key },
        PutNamespace = PutNamespace { name, window_ms },
        DeleteNamespace = DeleteNamespace { name },
    ]
} }

kinds! { ClaimReply in claim_reply {
    one [InFlight, Renewed, Namespace]
    with [
        Taken = ClaimTaken { repeated; claim },
        Completed = ClaimDone { namespace, repeated; claim },
        Released = ClaimReleased { repeated },
    ]
} }

only_kinds!(ClaimOperation, ClaimReply);
