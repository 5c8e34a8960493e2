//! The names of all metrics of the sidecar (the HTTP face keeps its own list).
//!
//! Counters end in `_total`, sizes in `_bytes`, times in `_seconds`. No label holds anything of a client.

/// Sessions born at this node.
pub const SESSIONS_BORN: &str = "wayfarer_sessions_born_total";
/// Sessions ended at this node.
pub const SESSIONS_ENDED: &str = "wayfarer_sessions_ended_total";
/// Keys that became another session's at this node.
pub const KEYS_RENAMED: &str = "wayfarer_keys_renamed_total";
/// Sessions that operations at this node found lost with the node that had them; each once a node, as long as it remembers.
pub const SESSIONS_LOST: &str = "wayfarer_sessions_lost_total";
/// Times that a session was not handed over because a message about it could not be sent.
pub const HANDOVERS_UNSENDABLE: &str = "wayfarer_handovers_unsendable_total";
/// Sessions that this node owns.
pub const SESSIONS_OWNED: &str = "wayfarer_sessions_owned";
/// Handovers that this node gave and that committed.
pub const HANDOVERS_GIVEN: &str = "wayfarer_handovers_given_total";
/// Handovers that this node took.
pub const HANDOVERS_TAKEN: &str = "wayfarer_handovers_taken_total";
/// Handovers that this node gave and that did not commit.
pub const HANDOVERS_ABORTED: &str = "wayfarer_handovers_aborted_total";
/// Handovers that this node was offered and did not take in the end.
pub const HANDOVERS_DECLINED: &str = "wayfarer_handovers_declined_total";
/// Variables that were demoted to `deferred` for a budget.
pub const VARIABLES_DEMOTED: &str = "wayfarer_variables_demoted_total";
/// Variables that came after their session.
pub const VARIABLES_FETCHED_LATE: &str = "wayfarer_variables_fetched_late_total";
/// Bytes of their values.
pub const VARIABLES_FETCHED_LATE_BYTES: &str = "wayfarer_variables_fetched_late_bytes_total";
/// Variables that were declared lost.
pub const VARIABLES_LOST: &str = "wayfarer_variables_lost_total";
/// Values from another node that did not match their manifest.
pub const VALUES_MISMATCHED: &str = "wayfarer_values_mismatched_total";
/// Residuals of this node that ended.
pub const RESIDUALS_ENDED: &str = "wayfarer_residuals_ended_total";
/// Bytes of the residuals that this node keeps.
pub const RESIDUAL_BYTES: &str = "wayfarer_residual_bytes";
/// Members that this node declared dead.
pub const MEMBERS_FENCED: &str = "wayfarer_members_fenced_total";
/// Wishes to adopt a session that were left out because the driver was busy or enough sessions were leaving already.
pub const ADOPTIONS_SKIPPED: &str = "wayfarer_adoptions_skipped_total";
/// Requests whose session was not looked for ahead because too much was under way.
pub const ARRIVALS_SKIPPED: &str = "wayfarer_arrivals_skipped_total";
/// Messages between nodes that were not sent: unknown, unreachable or overloaded peer.
pub const MESSAGES_NOT_SENT: &str = "wayfarer_control_messages_not_sent_total";
/// How old the oldest change is that the upstream lacks, by `impact`.
pub const STALENESS_SECONDS: &str = "wayfarer_staleness_seconds";
/// Bytes of commands whose effect the upstream lacks, about.
pub const UNWRITTEN_BYTES: &str = "wayfarer_unwritten_bytes";
/// Sessions that were at rest and became owned here.
pub const CHECK_OUTS: &str = "wayfarer_check_outs_total";
/// Sessions that were owned here and went to rest.
pub const CHECK_INS: &str = "wayfarer_check_ins_total";
/// Sessions that could not go to rest and stayed.
pub const CHECK_INS_FAILED: &str = "wayfarer_check_ins_failed_total";
/// Batches of changes that the upstream has taken, one session each.
pub const FLUSHES: &str = "wayfarer_flushes_total";
/// Bytes of the commands behind them, about.
pub const FLUSHED_BYTES: &str = "wayfarer_flushed_bytes_total";
/// Questions, loads and stores that the upstream refused or did not answer.
pub const REST_ERRORS: &str = "wayfarer_rest_errors_total";
/// Keys of sessions at rest that somebody else had written while the session was owned.
pub const FOREIGN_WRITES: &str = "wayfarer_foreign_writes_total";
/// Loads and stores that the upstream refused because a later owner had been there.
pub const STALE_STORES: &str = "wayfarer_stale_stores_total";
/// Questions to the directory without an answer.
pub const DIRECTORY_ERRORS: &str = "wayfarer_directory_errors_total";
/// Operations that waited for a handover.
pub const OPERATIONS_PARKED: &str = "wayfarer_operations_parked_total";
/// Operations that were forwarded to another node.
pub const OPERATIONS_FORWARDED: &str = "wayfarer_operations_forwarded_total";
/// Operations that ended with an error of Wayfarer's own.
pub const OPERATIONS_FAILED: &str = "wayfarer_operations_failed_total";
/// The mode of the cluster as this node sees it: 1 for the present `mode`, 0 for the others.
pub const MODE: &str = "wayfarer_mode";
/// Whether the instance accepts connections: 1 or 0; shown where it is looked at (`[app] probe_ms`).
pub const INSTANCE_ACCEPTING: &str = "wayfarer_instance_accepting";
/// Whether this node has a lease: 1 or 0.
pub const LEASE_VALID: &str = "wayfarer_lease_valid";
/// Bytes of frames sent to other nodes, by `phase`: `eager`, `late`, `other`.
pub const CONTROL_BYTES: &str = "wayfarer_control_bytes_sent_total";
/// Messages from other nodes, by `kind`.
pub const CONTROL_RECEIVED: &str = "wayfarer_control_messages_received_total";
/// Messages to other nodes that were queued and then dropped, because their connection broke.
pub const CONTROL_DROPPED: &str = "wayfarer_control_messages_dropped_total";
/// Times that a peer became unreachable.
pub const CONTROL_UNREACHABLE: &str = "wayfarer_control_peers_unreachable_total";
/// Connections of other nodes that were refused: bad handshake, or too many.
pub const CONTROL_REFUSED: &str = "wayfarer_control_connections_refused_total";
/// Commands of clients of the state face, by `path`: `hot`, `slow`, `upstream`, `refused`.
pub const STATE_OPERATIONS: &str = "wayfarer_state_operations_total";
/// Clients of the state face.
pub const STATE_CONNECTIONS: &str = "wayfarer_state_connections";
/// Bytes of replies that clients of the state face have not taken.
pub const STATE_OUTPUT_BYTES: &str = "wayfarer_state_output_bytes";
/// Clients that were refused because there were too many.
pub const STATE_CONNECTIONS_REFUSED: &str = "wayfarer_state_connections_refused_total";
/// Writes to keys whose values are merged, by `outcome`: `based` on what their request had read, `not_based`: they replace all.
pub const STATE_MERGE_WRITES: &str = "wayfarer_state_merge_writes_total";
/// Clients that were disconnected because they did not read their replies.
pub const STATE_CLIENTS_STALLED: &str = "wayfarer_state_clients_stalled_total";
/// Bytes of memory that sessions use, about; shown where `[state] max_memory` is set.
pub const MEMORY: &str = "wayfarer_session_memory_bytes";
/// Bytes of memory that sessions may use.
pub const MEMORY_MAX: &str = "wayfarer_session_memory_max_bytes";
/// Operations that were refused, in whole or in part, because sessions use as much memory as they may.
pub const MEMORY_REFUSED: &str = "wayfarer_memory_refused_total";
/// Sessions that went to rest to make room.
pub const MEMORY_CHECK_INS: &str = "wayfarer_memory_check_ins_total";
/// Times that a bound was hit, by `bound`: the setting, without its section.
pub const BOUNDS_HIT: &str = "wayfarer_bounds_hit_total";
/// Commands on session keys that are not served, by `command`: Redis's name of it, or `other`.
pub const STATE_UNKNOWN: &str = "wayfarer_state_unknown_commands_total";
/// Events of keys that were not told, because too many waited or a message to another member was lost.
pub const EVENTS_DROPPED: &str = "wayfarer_key_events_dropped_total";
/// Events of keys of sessions owned here, that somebody wants to hear of.
pub const EVENTS: &str = "wayfarer_key_events_total";
/// Channels and patterns that clients of this node have subscribed to in the cluster.
pub const SUBSCRIPTIONS: &str = "wayfarer_subscriptions";
/// Subscribers that were disconnected because they did not read what was told them.
pub const SUBSCRIBERS_OVERFLOWED: &str = "wayfarer_subscribers_overflowed_total";
/// Events of session keys from the upstream that were not passed on, by `reason`: `owned`, `flushed`, `unknown`.
pub const EVENTS_WITHHELD: &str = "wayfarer_upstream_events_withheld_total";
/// Connections at the listeners of `[redirect]`, by `direction`: `outbound`, `inbound`; and by `outcome`: `taken` by a face, `passed`
/// through to another server, `direct`: refused, nothing had redirected them; `unknown`: closed, it could not be found out where the
/// upstream is; `full`: closed, there were too many.
pub const REDIRECT_CONNECTIONS: &str = "wayfarer_redirect_connections_total";
/// Connections that are passed through now.
pub const REDIRECT_PASSED: &str = "wayfarer_redirect_passed_connections";
/// Clients that were disconnected because what they sent is not RESP or beyond the limits.
pub const STATE_PROTOCOL_ERRORS: &str = "wayfarer_state_protocol_errors_total";
