"""One class for each error code, so that a program can catch what it can handle.

Generated from docs/ERRORS.md by scripts/generate.py: change nothing here.
"""

from __future__ import annotations

from ._error import ErrorDetail as ErrorDetail
from ._error import LiminalError as LiminalError


class InvalidArgument(
    LiminalError,
    code='INVALID_ARGUMENT',
    outcome='definite',
    retry=False,
    next_step='correct the request as the message says',
):
    """The request says something that cannot be."""


class LimitExceeded(
    LiminalError,
    code='LIMIT_EXCEEDED',
    outcome='definite',
    retry=False,
    next_step='send less at once, or raise the limit on every node if it can be configured (docs/OPERATIONS.md)',
):
    """Something is larger than a limit allows."""


class Overloaded(
    LiminalError,
    code='OVERLOADED',
    outcome='definite',
    retry=True,
    next_step='try again after the time named, with fewer requests in flight',
):
    """The node has as much to do as it takes on."""


class QuotaExceeded(
    LiminalError,
    code='QUOTA_EXCEEDED',
    outcome='definite',
    retry=True,
    next_step='try again after the time named, or have the quota raised',
):
    """A quota is used up for now: that of a channel, a connection, an address or the node."""


class RequestTooSlow(
    LiminalError,
    code='REQUEST_TOO_SLOW',
    outcome='definite',
    retry=False,
    next_step='send faster, or send less at once (`limits.least_bytes_per_second`)',
):
    """The request did not come in within the time for it."""


class Cancelled(
    LiminalError,
    code='CANCELLED',
    outcome='unknown',
    retry=True,
    next_step='repeat the request with the same idempotency key, and a longer deadline',
):
    """The call was given up before it ended."""


class Unauthenticated(
    LiminalError,
    code='UNAUTHENTICATED',
    outcome='definite',
    retry=False,
    next_step='send a valid token as `authorization: Bearer TOKEN`; commands take it from `--token-file` or `LIMINAL_TOKEN`',
):
    """The caller did not say who it is."""


class PermissionDenied(
    LiminalError,
    code='PERMISSION_DENIED',
    outcome='definite',
    retry=False,
    next_step='ask an administrator for a role that grants it (docs/SECURITY.md)',
):
    """The caller may not do that."""


class Unimplemented(
    LiminalError,
    code='UNIMPLEMENTED',
    outcome='definite',
    retry=False,
    next_step='check that the server is as new as the client, and that all nodes are upgraded',
):
    """The server does not know the call, or another node is of an earlier version and does not know the request."""


class NoSuchPath(
    LiminalError,
    code='NO_SUCH_PATH',
    outcome='definite',
    retry=False,
    next_step='check the path against `/v1/openapi.json`',
):
    """There is nothing at this path, over HTTP."""


class MethodNotAllowed(
    LiminalError,
    code='METHOD_NOT_ALLOWED',
    outcome='definite',
    retry=False,
    next_step='use a method that the `Allow` header names',
):
    """The path does not take this method, over HTTP."""


class OriginNotAllowed(
    LiminalError,
    code='ORIGIN_NOT_ALLOWED',
    outcome='definite',
    retry=False,
    next_step="add the page's origin to `allowed_origins`",
):
    """A web page of an origin that is not allowed asked, over HTTP."""


class HostNotAllowed(
    LiminalError,
    code='HOST_NOT_ALLOWED',
    outcome='definite',
    retry=False,
    next_step="use the node's own address, or add the origin to `allowed_origins`",
):
    """The request names a host that the node does not answer for, over HTTP."""


class ChannelNotFound(
    LiminalError,
    code='CHANNEL_NOT_FOUND',
    outcome='definite',
    retry=False,
    next_step='correct the name, or create the channel (`liminal channel create`)',
):
    """The channel does not exist."""


class ChannelExists(
    LiminalError,
    code='CHANNEL_EXISTS',
    outcome='definite',
    retry=False,
    next_step='look at it with `liminal channel show`, or choose another name',
):
    """A channel of that name exists with another configuration."""


class InvalidChannelName(
    LiminalError,
    code='INVALID_CHANNEL_NAME',
    outcome='definite',
    retry=False,
    next_step='choose a name as the message says',
):
    """The text is no channel name."""


class InvalidSchema(
    LiminalError,
    code='INVALID_SCHEMA',
    outcome='definite',
    retry=False,
    next_step='correct the schema as the message says',
):
    """The schema cannot be used."""


class SchemaIncompatible(
    LiminalError,
    code='SCHEMA_INCOMPATIBLE',
    outcome='definite',
    retry=False,
    next_step='correct the places named, or validate the stored messages and update without the check',
):
    """The new schema does not take every payload that the old one takes."""


class RuleNotFound(
    LiminalError,
    code='RULE_NOT_FOUND',
    outcome='definite',
    retry=False,
    next_step='look at the rules with `liminal rule list`',
):
    """There is no such rule between channels."""


class RuleRefused(
    LiminalError,
    code='RULE_REFUSED',
    outcome='definite',
    retry=False,
    next_step='look at the rules with `liminal rule list`',
):
    """The rule between channels cannot be made."""


class SchemaViolation(
    LiminalError,
    code='SCHEMA_VIOLATION',
    outcome='definite',
    retry=False,
    next_step="mend the places named, or update the channel's schema",
):
    """The payload does not fit the channel's schema."""


class SchemaTooExpensive(
    LiminalError,
    code='SCHEMA_TOO_EXPENSIVE',
    outcome='definite',
    retry=False,
    next_step='have each part of the schema refer to a definition once, and nest less where it refers back to itself; or send a smaller payload',
):
    """Checking the payload against the schema would take too many steps."""


class StaleSchema(
    LiminalError,
    code='STALE_SCHEMA',
    outcome='definite',
    retry=True,
    next_step='repeat the request',
):
    """The channel's schema changed while the message was checked. Nodes begin again by themselves."""


class KeyConflict(
    LiminalError,
    code='KEY_CONFLICT',
    outcome='definite',
    retry=False,
    next_step='use a new key for a new message; the same key is for retries of the same one',
):
    """The idempotency key was used with another payload."""


class TooManyKeys(
    LiminalError,
    code='TOO_MANY_KEYS',
    outcome='definite',
    retry=False,
    next_step='wait until keys leave the window, give the channel a shorter one, or raise limits.live_keys (docs/KEYS.md, "How many keys")',
):
    """The channel, or the cluster, remembers as many idempotency keys as it may."""


class ChannelFull(
    LiminalError,
    code='CHANNEL_FULL',
    outcome='definite',
    retry=False,
    next_step="let go of old messages with `liminal channel trim`, raise the channel's limit, or let it drop the oldest",
):
    """The channel holds as much as it may, and refuses new messages then."""


class WrongSeq(
    LiminalError,
    code='WRONG_SEQ',
    outcome='definite',
    retry=False,
    next_step='read what was published meanwhile, then publish again with the new expected sequence number',
):
    """The channel does not end where the publisher expected."""


class OutOfRange(
    LiminalError,
    code='OUT_OF_RANGE',
    outcome='definite',
    retry=False,
    next_step='begin at the first message that is stored, or at `earliest`',
):
    """Messages from the start on were removed, or are not there yet."""


class HistoryRewound(
    LiminalError,
    code='HISTORY_REWOUND',
    outcome='definite',
    retry=False,
    next_step='undo what came after the backup, and go on at the position named',
):
    """The channel was restored from a backup that ends before the position."""


class ChannelRecreated(
    LiminalError,
    code='CHANNEL_RECREATED',
    outcome='definite',
    retry=False,
    next_step='go on at the position named, or begin at `earliest`',
):
    """The position is of another channel of the same name."""


class PositionBeyondEnd(
    LiminalError,
    code='POSITION_BEYOND_END',
    outcome='definite',
    retry=False,
    next_step='go on at the position named, or begin at `earliest`',
):
    """The channel ends before the position."""


class NotStored(
    LiminalError,
    code='NOT_STORED',
    outcome='definite',
    retry=False,
    next_step='subscribe from `latest`, or use a durable channel',
):
    """The channel is ephemeral: it stores nothing."""


class ConsumerNotFound(
    LiminalError,
    code='CONSUMER_NOT_FOUND',
    outcome='definite',
    retry=False,
    next_step='correct the name, or create the consumer (`liminal consumer create`)',
):
    """The consumer does not exist."""


class ConsumerExists(
    LiminalError,
    code='CONSUMER_EXISTS',
    outcome='definite',
    retry=False,
    next_step='look at it with `liminal consumer show`, or choose another name',
):
    """A consumer of that name exists with another configuration."""


class InvalidConsumerName(
    LiminalError,
    code='INVALID_CONSUMER_NAME',
    outcome='definite',
    retry=False,
    next_step='choose a name as the message says',
):
    """The text is no consumer name."""


class StaleDelivery(
    LiminalError,
    code='STALE_DELIVERY',
    outcome='definite',
    retry=False,
    next_step='undo what was done for it, or let it be done twice; extend deliveries that take long',
):
    """The message was handed to somebody else meanwhile, or is settled."""


class NamespaceNotFound(
    LiminalError,
    code='NAMESPACE_NOT_FOUND',
    outcome='definite',
    retry=False,
    next_step='check the name with `liminal claim namespaces`; a namespace comes into being with its first claim',
):
    """The namespace of claims does not exist."""


class TooManyClaims(
    LiminalError,
    code='TOO_MANY_CLAIMS',
    outcome='definite',
    retry=False,
    next_step='wait until claims leave, give the namespace a shorter window, or use another namespace',
):
    """There are as many claims as there may be."""


class ClaimInFlight(
    LiminalError,
    code='CLAIM_IN_FLIGHT',
    outcome='definite',
    retry=True,
    next_step='try again after the time named: by then it is completed, or its lease has ended or is renewed',
):
    """Somebody else holds the claim."""


class ClaimStale(
    LiminalError,
    code='CLAIM_STALE',
    outcome='definite',
    retry=False,
    next_step='stop this work: it is no longer yours; take the claim again to see what became of it',
):
    """The claim's lease has ended, or its token is not the newest."""


class ClaimCompleted(
    LiminalError,
    code='CLAIM_COMPLETED',
    outcome='definite',
    retry=False,
    next_step='take the claim to be given the receipt that stands',
):
    """The claim was completed, with another receipt."""


class NoResponders(
    LiminalError,
    code='NO_RESPONDERS',
    outcome='definite',
    retry=False,
    next_step='start a responder; nothing was stored',
):
    """Nobody is there to answer the request."""


class ReplyTimeout(
    LiminalError,
    code='REPLY_TIMEOUT',
    outcome='unknown',
    retry=False,
    next_step='look whether the responder works; the request may still be handled',
):
    """Nobody answered the request in time."""


class InboxGone(
    LiminalError,
    code='INBOX_GONE',
    outcome='definite',
    retry=False,
    next_step='drop the reply: it was answered, or the time for it is over',
):
    """Who sent the request does not wait for a reply any longer."""


class TokenNotFound(
    LiminalError,
    code='TOKEN_NOT_FOUND',
    outcome='definite',
    retry=False,
    next_step='look at the tokens with `liminal token list`',
):
    """There is no token of that id."""


class RoleNotFound(
    LiminalError,
    code='ROLE_NOT_FOUND',
    outcome='definite',
    retry=False,
    next_step='look at the roles with `liminal role list`',
):
    """There is no such role."""


class RoleExists(
    LiminalError,
    code='ROLE_EXISTS',
    outcome='definite',
    retry=False,
    next_step='look at it with `liminal role show`, or change it with `liminal role update`',
):
    """A role of that name grants something else."""


class RoleInUse(
    LiminalError,
    code='ROLE_IN_USE',
    outcome='definite',
    retry=False,
    next_step='revoke its tokens first, or take away what it grants with `liminal role update`',
):
    """A role that tokens have cannot be deleted."""


class LastAdministrator(
    LiminalError,
    code='LAST_ADMINISTRATOR',
    outcome='definite',
    retry=False,
    next_step='make another token with the role `admin` first, or revoke it with `liminal token revoke ID --force`',
):
    """Without the token nobody could administer the cluster."""


class NoLeader(
    LiminalError,
    code='NO_LEADER',
    outcome='definite',
    retry=True,
    next_step='check that a majority of the nodes is up (`liminal cluster status`), then try again',
):
    """The cluster has no leader, or the leader has no majority."""


class NotConfirmed(
    LiminalError,
    code='NOT_CONFIRMED',
    outcome='definite',
    retry=True,
    next_step='try again, or ask for a local read',
):
    """The leader could not confirm that it still leads."""


class NotAMember(
    LiminalError,
    code='NOT_A_MEMBER',
    outcome='definite',
    retry=True,
    next_step='try another node',
):
    """The node takes no part in the cluster."""


class Stopping(
    LiminalError,
    code='STOPPING',
    outcome='definite',
    retry=True,
    next_step='try another node',
):
    """The node is about to stop."""


class StoreFailed(
    LiminalError,
    code='STORE_FAILED',
    outcome='either',
    retry=True,
    next_step='look at the disk and the log of the node; another node takes its place if one is well: try again with the same idempotency key',
):
    """The node's disk failed."""


class OutcomeUnknown(
    LiminalError,
    code='OUTCOME_UNKNOWN',
    outcome='unknown',
    retry=True,
    next_step='retry with the same idempotency key: it is stored at most once',
):
    """It may have happened, or may yet happen."""


class ChangeRefused(
    LiminalError,
    code='CHANGE_REFUSED',
    outcome='definite',
    retry=False,
    next_step='look at `liminal cluster status`, and do what the message says',
):
    """The cluster cannot make this change now."""


class Internal(
    LiminalError,
    code='INTERNAL',
    outcome='definite',
    retry=False,
    next_step='look at the log of the node, and report the message as a bug',
):
    """Something went wrong that should not."""


class Unreachable(
    LiminalError,
    code='UNREACHABLE',
    outcome='definite',
    retry=True,
    next_step='check the address (`--server`, `LIMINAL_SERVER`) and that the node is running',
):
    """From the client: no node could be reached, and nothing was sent."""


class ConnectionLost(
    LiminalError,
    code='CONNECTION_LOST',
    outcome='unknown',
    retry=True,
    next_step='retry with the same idempotency key: it is stored at most once',
):
    """From the client: the connection was lost after the request was sent."""


class Timeout(
    LiminalError,
    code='TIMEOUT',
    outcome='unknown',
    retry=True,
    next_step='retry with the same idempotency key: it is stored at most once',
):
    """From the client: no answer came in time."""


class Usage(
    LiminalError,
    code='USAGE',
    outcome='definite',
    retry=False,
    next_step="see the command's `--help`",
):
    """From a command: it was asked for in a way that makes no sense."""
