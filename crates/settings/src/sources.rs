//! `[http] session`: tables of the configuration → where the HTTP face looks for the id of a session.
//!
//! It knows the table's words, not what a codec does (`wayfarer_identity` does). Called by `assemble`.
//! Invariant: each source that comes out has one place, and secrets only where something can be checked with them.

use crate::assemble::items;
use crate::gather::Item;
use crate::mistake::Complaint;
use crate::reader::Reader;
use crate::words::Codec;
use http::header::HeaderName;
use wayfarer_identity::{Identity, PathTemplate, Place, SOURCES_MAX, Secrets, Source};

/// What says where, each alone.
const PLACES: [&str; 5] =
    ["http.session[].cookie", "http.session[].header", "http.session[].query", "http.session[].path", "http.session[].bearer"];

/// The sources in their order.
pub(crate) fn identity(read: &mut Reader<'_>) -> Identity {
    let mut sources = Vec::new();
    let items = items(read, "http.session");
    if let Some(beyond) = items.get(SOURCES_MAX) {
        let mistake = beyond.origin.mistake(format!("has more than {SOURCES_MAX} entries"), "keep those that clients use");
        read.report(mistake);
    }
    for item in items {
        let mut mistakes = Vec::new();
        let mut entry = Reader::new(&item.fields, &mut mistakes);
        let source = source(&mut entry, item);
        #[cfg(test)]
        read.asked.append(&mut entry.asked);
        mistakes.into_iter().for_each(|mistake| read.report(mistake));
        sources.extend(source);
    }
    Identity::new(sources)
}

fn source(entry: &mut Reader<'_>, item: &Item) -> Option<Source> {
    let places = [
        entry.optional_text("http.session[].cookie").map(Place::Cookie),
        entry.optional_text("http.session[].header").and_then(|name| HeaderName::try_from(name).ok()).map(Place::Header),
        entry.optional_text("http.session[].query").map(Place::Query),
        entry.parsed("http.session[].path", path).map(Place::Path),
        entry.optional_text("http.session[].bearer").map(Place::Bearer),
    ];
    let codec = entry.choice("http.session[].codec").unwrap_or(Codec::Plain);
    let secrets = entry.secrets("http.session[].secret", "http.session[].secret_file");
    let mut written = PLACES.into_iter().filter(|key| entry.located(key).is_some());
    match (written.next(), written.next().and_then(|key| entry.located(key))) {
        (None, _) => {
            let remedy = "add cookie = \"…\" (or header, query, path, bearer)";
            entry.report(item.origin.mistake("does not say where the session's id stands", remedy));
        }
        (Some(_), Some(second)) => {
            let mistake = second.origin.mistake(
                "is a second place in one table",
                "make two tables of it: session = [ { … }, { … } ], asked in their order",
            );
            entry.report(mistake);
        }
        (Some(_), None) => {}
    }
    let place = places.into_iter().flatten().next()?;
    let with_secret = ["http.session[].secret", "http.session[].secret_file"].into_iter().find_map(|key| entry.located(key));
    if let Some(located) = with_secret
        && !codec.is_signed()
        && !matches!(place, Place::Bearer(_))
    {
        let remedy = "remove it, or write codec = \"express\" or \"fastify\" if the framework signs";
        let mistake = located.origin.mistake("has no meaning here: nothing of this form is signed with it", remedy);
        entry.report(mistake);
    }
    Some(Source { place, codec, secrets: Secrets::new(secrets.iter().map(|secret| secret.expose())) })
}

fn path(text: &str) -> Result<PathTemplate, Complaint> {
    PathTemplate::parse(text)
        .map_err(|why| Complaint::new(why, "write a path as in \"/shop/{session}\" or \";jsessionid={session}\""))
}
