//! Requests and replies in a few words, for traces.

use base::text;
use bytes::Bytes;

use super::request::{Reply, Request};

/// Bytes of a value that are shown.
const SHOWN_BYTES: usize = 24;

pub(crate) fn request(bytes: &Bytes) -> String {
    match Request::decode(bytes) {
        Ok(Request::Read { keys }) => format!("read {}", names(&keys)),
        Ok(Request::Commit { read_ts, reads, writes }) => {
            let writes: Vec<_> = writes
                .iter()
                .map(|(key, value)| format!("{}={}", text::escape(key), shown(value.as_ref())))
                .collect();
            let writes = writes.join(" ");
            match reads.is_empty() {
                true => format!("commit {writes}"),
                false => format!("commit {writes} if {} as of {read_ts}", names(&reads)),
            }
        }
        Err(_) => "no request".to_owned(),
    }
}

pub(crate) fn reply(bytes: &Bytes) -> String {
    match Reply::decode(bytes) {
        Ok(Reply::Values { read_ts, values }) => {
            let values: Vec<_> = values.iter().map(|value| shown(value.as_ref())).collect();
            format!("values {} as of {read_ts}", values.join(" "))
        }
        Ok(Reply::Committed { commit_ts }) => format!("committed at {commit_ts}"),
        Ok(Reply::Conflict) => "conflict".to_owned(),
        Ok(Reply::NotLeader { leader: Some(leader) }) => format!("not here, but at n{leader}"),
        Ok(Reply::NotLeader { leader: None }) => "not here".to_owned(),
        Ok(Reply::Busy) => "not now".to_owned(),
        Ok(Reply::Unknown) => "committed, or not".to_owned(),
        Err(_) => "no reply".to_owned(),
    }
}

fn names(keys: &[Bytes]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| text::escape(key)).collect();
    keys.join(" ")
}

fn shown(value: Option<&Bytes>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(value) if value.len() <= SHOWN_BYTES => text::escape(value),
        Some(value) => format!("({} bytes)", value.len()),
    }
}
