//! The SQLite backend and its file: bad files and folders, schema versions, restarts of the machine, bounds, and the sweep.
//!
//! Where the file's inside is needed, the test opens it with SQLite itself.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

use rusqlite::Connection;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;
use tempfile::TempDir;
use wayfarer_directory::conformance::{DEADLINE, draft, member};
use wayfarer_directory::sqlite::{GROUPS_MAX, PARTS_MAX, Swept, TEXT_BYTES_MAX};
use wayfarer_directory::{SqliteDirectory, SqliteOptions};
use wayfarer_engine::directory::{Compare, Directory, DirectoryError, MemberDraft, NextEpoch, Outcome, Transaction, View, Write};
use wayfarer_engine::ids::{Epoch, GroupId, HandoverId, Incarnation, SessionId};

fn open(path: &Path) -> SqliteDirectory {
    SqliteDirectory::open(path, SqliteOptions::default()).unwrap()
}

/// The message of an opening that must fail, with the path that it must name.
fn refused(path: &Path) -> String {
    match SqliteDirectory::open(path, SqliteOptions::default()) {
        Err(DirectoryError::NotAsked(why)) => {
            assert!(why.contains(path.to_str().unwrap()), "the path is not named: {why}");
            why
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

fn not_asked<T: std::fmt::Debug>(answer: Result<T, DirectoryError>) -> String {
    match answer {
        Err(DirectoryError::NotAsked(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn place(session: &str, group: GroupId) -> Write {
    let session = SessionId::copy_of(session.as_bytes());
    Write::Place { session, group, epoch: NextEpoch::Fresh, last: None, depends: Vec::new() }
}

async fn write(directory: &SqliteDirectory, write: Vec<Write>) -> Result<Outcome, DirectoryError> {
    directory.transact(Transaction { compare: Vec::new(), write }).await
}

#[test]
fn what_cannot_be_opened_is_named_with_the_reason() {
    let folder = TempDir::new().unwrap();
    assert!(refused(folder.path()).contains("is a folder"));
    assert!(refused(&folder.path().join("no/such/folder.db")).contains("the folder must exist"));
    // Nobody may make files in /proc, root neither.
    assert!(refused(Path::new("/proc/wayfarer.db")).contains("allowed to write"));

    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, b"this is no database".repeat(1000)).unwrap();
    assert!(refused(&garbage).contains("not a SQLite database"));
    assert!(std::fs::read(&garbage).unwrap().starts_with(b"this is no database"), "a file of somebody else was changed");

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE customers (id INTEGER)").unwrap();
    assert!(refused(&foreign).contains("another program"));
    let mode: String = Connection::open(&foreign).unwrap().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete", "a file of somebody else was changed");

    let blocked = folder.path().join("blocked.db");
    std::fs::write(folder.path().join("blocked.db.locks"), b"a file where the folder should be").unwrap();
    let why = match SqliteDirectory::open(&blocked, SqliteOptions::default()) {
        Ok(directory) => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            not_asked(runtime.block_on(directory.register(draft("a"), 1)))
        }
        Err(error) => error.to_string(),
    };
    assert!(why.contains("lock"), "{why}");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    {
        let directory = open(&path);
        for n in 0..20 {
            member(&directory, &format!("member {n}")).await;
        }
    }
    // Two connections that close at once may each leave the log to the other.
    Connection::open(&path).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 3 * 4096, "the members are in the file");
    // All but the first page: the header and the schema are whole, the tables are not.
    bytes[4096..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    assert!(refused(&path).contains("damaged"));
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    member(&open(&path), "a").await;
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let why = refused(&path);
    assert!(why.contains("99") && why.contains("newer program"), "{why}");
    let version: i64 = Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    assert_eq!(open(&path).view().await.unwrap().members.len(), 1);
}

#[tokio::test]
async fn after_a_restart_of_the_machine_all_are_dead_and_the_counter_has_jumped() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    let directory = open(&path);
    let (a, ..) = member(&directory, "a").await;
    drop(directory);
    Connection::open(&path).unwrap().execute_batch("UPDATE meta SET boot_id = 'x'; UPDATE member SET boot_id = 'x'").unwrap();
    let directory = open(&path);
    assert_eq!(directory.is_proven_dead(a).await, Ok(true), "its lock is held here, but that is another machine's life");
    let (b, ..) = member(&directory, "a").await;
    assert!(b.0.0 > a.0.0 + (1 << 31), "what power loss took back from the counter must not come again: {b:?} after {a:?}");
    drop(directory);
    let (c, ..) = member(&open(&path), "c").await;
    assert!(c.0.0 < b.0.0 + 100, "one jump for one restart");
}

#[tokio::test]
async fn no_id_of_a_session_is_in_the_files() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    let directory = open(&path);
    let (_, group, _) = member(&directory, "member-name").await;
    write(&directory, vec![place("very-secret-session-id", group)]).await.unwrap();
    let contains = |needle: &[u8]| {
        let files = ["d.db", "d.db-wal"].map(|name| std::fs::read(folder.path().join(name)).unwrap_or_default()).concat();
        files.windows(needle.len()).any(|window| window == needle)
    };
    assert!(contains(b"member-name"), "the files are not what this test takes them for");
    assert!(!contains(b"very-secret-session-id"));
    drop(directory);
    assert!(!contains(b"very-secret-session-id"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_limit() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    let options = SqliteOptions { members_max: 3, size_bytes_max: 256 << 10, ..SqliteOptions::default() };
    let directory = SqliteDirectory::open(&path, options).unwrap();
    let long = MemberDraft { zone: "z".repeat(TEXT_BYTES_MAX + 1), ..draft("long") };
    assert!(not_asked(directory.register(long, 1).await).contains("512"));
    assert!(not_asked(directory.register(draft(""), 1).await).contains("name"));
    assert!(not_asked(directory.register(draft("many"), GROUPS_MAX + 1).await).contains("groups"));
    let (a, group, _) = member(&directory, "a").await;
    assert!(not_asked(write(&directory, vec![Write::Renew { incarnation: a }; PARTS_MAX + 1]).await).contains("parts"));
    let depends = vec![HandoverId { origin: a, serial: 1 }; 5000];
    let session = SessionId::copy_of(b"s");
    let put = Write::Place { session, group, epoch: NextEpoch::Fresh, last: None, depends };
    assert!(not_asked(write(&directory, vec![put]).await).contains("handovers"));
    member(&directory, "b").await;
    member(&directory, "c").await;
    assert!(not_asked(directory.register(draft("d"), 1).await).contains("limit of members"));

    // A full file refuses whole transactions, and goes on with what needs no room.
    let mut refused = None;
    for batch in 0..100 {
        let sessions: Vec<String> = (0..100).map(|n| format!("{batch}/{n}")).collect();
        match write(&directory, sessions.iter().map(|s| place(s, group)).collect()).await {
            Ok(_) => {}
            Err(error) => {
                refused = Some((not_asked::<()>(Err(error)), sessions));
                break;
            }
        }
    }
    let (why, sessions) = refused.unwrap();
    assert!(why.contains("size limit"), "{why}");
    for session in sessions {
        let found = directory.read(SessionId::copy_of(session.as_bytes())).await.unwrap();
        assert_eq!(found.location, None, "half a transaction");
    }
    assert!(write(&directory, vec![Write::Renew { incarnation: a }]).await.is_ok());
    assert_eq!(directory.view().await.unwrap().members[&a].renewals, 1);
}

#[tokio::test]
async fn a_transaction_that_fails_in_the_middle_leaves_nothing_and_harms_no_other() {
    let folder = TempDir::new().unwrap();
    let directory = open(&folder.path().join("d.db"));
    let (a, group, _) = member(&directory, "a").await;
    let session = SessionId::copy_of(b"t");
    // SQLite's numbers end before this epoch does.
    let keep = NextEpoch::Keep(Epoch(u64::MAX));
    let impossible = Write::Place { session, group, epoch: keep, last: None, depends: Vec::new() };
    let bad = vec![place("s", group), Write::Renew { incarnation: a }, impossible];
    let (before, failed, after) = tokio::join!(
        write(&directory, vec![place("before", group)]),
        write(&directory, bad),
        write(&directory, vec![place("after", group)])
    );
    not_asked(failed);
    assert!(before.is_ok() && after.is_ok());
    for (session, is_there) in [("before", true), ("s", false), ("t", false), ("after", true)] {
        let found = directory.read(SessionId::copy_of(session.as_bytes())).await.unwrap();
        assert_eq!(found.location.is_some(), is_there, "{session}");
    }
    assert_eq!(directory.view().await.unwrap().members[&a].renewals, 0);
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_busy_file_is_not_waited_for_without_end() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    let options = SqliteOptions { queue_max: 4, batch_max: 2, busy_ms: 300, ..SqliteOptions::default() };
    let directory = SqliteDirectory::open(&path, options).unwrap();
    let (a, ..) = member(&directory, "a").await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let renew = || write(&directory, vec![Write::Renew { incarnation: a }]);
    assert!(not_asked(renew().await).contains("another process holds it"));
    let mut rest: Vec<_> = (0..20).map(|_| Box::pin(renew())).collect();
    let full = std::future::poll_fn(|cx| {
        let full = rest.iter_mut().filter_map(|asked| match asked.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => Some(not_asked(answer)),
            std::task::Poll::Pending => None,
        });
        std::task::Poll::Ready(full.collect::<Vec<_>>())
    })
    .await;
    // Four in the queue, two in the batch that the writer is at, and another two if it was just done with that.
    assert!(full.len() >= 20 - 8, "{} of 20 were refused", full.len());
    assert!(full.iter().all(|why| why.contains("queue") && why.contains("raise")), "{full:?}");
    // Reading needs no writer.
    assert!(directory.read(SessionId::copy_of(b"s")).await.is_ok());
    other.execute_batch("ROLLBACK").unwrap();
    drop(rest);
    // What is queued is still answered first, and until then the queue may be full.
    let until = std::time::Instant::now() + DEADLINE;
    while let Err(error) = renew().await {
        assert!(std::time::Instant::now() < until, "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_sweep_removes_what_is_dead_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    let directory = open(&path);
    let (a, group_a, _) = member(&directory, "a").await;
    let (b, group_b, _) = member(&directory, "b").await;
    write(&directory, vec![place("s", group_a), place("t", group_b)]).await.unwrap();
    write(&directory, vec![Write::Fence { incarnation: a }]).await.unwrap();
    assert_eq!(directory.sweep().await, Ok(Swept::default()), "it is not old yet");
    assert!(directory.view().await.unwrap().members.contains_key(&a));

    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "UPDATE member SET fenced_unix_s = fenced_unix_s - 90000; UPDATE grp SET lost_unix_s = lost_unix_s - 90000",
        )
        .unwrap();
    assert_eq!(directory.sweep().await, Ok(Swept { locations: 1, groups: 1, members: 1 }));
    let view = directory.view().await.unwrap();
    assert!(view.is_dead(a) && !view.is_dead(b));
    assert_eq!(view.groups.keys().collect::<Vec<_>>(), [&group_b]);
    assert_eq!(directory.read(SessionId::copy_of(b"s")).await.unwrap().owner(), None);
    assert_eq!(directory.read(SessionId::copy_of(b"t")).await.unwrap().owner(), Some(b));
    let alive = Transaction { compare: vec![Compare::Alive { incarnation: a }], write: Vec::new() };
    assert!(matches!(directory.transact(alive).await, Ok(Outcome::Refused { .. })));
    let (c, ..) = member(&directory, "a").await;
    assert!(c > b, "numbers are never given out again");
}

#[tokio::test]
async fn many_lives_of_one_name_leave_a_bounded_number_of_records_and_files() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    let options = SqliteOptions { fenced_max: 5, members_max: 10, ..SqliteOptions::default() };
    let directory = SqliteDirectory::open(&path, options).unwrap();
    let mut last = Incarnation(Epoch(0));
    for _ in 0..40 {
        last = member(&directory, "a").await.0;
        directory.release();
    }
    let swept = directory.sweep().await.unwrap();
    assert!(swept.members <= 1, "{swept:?}");
    let view = directory.view().await.unwrap();
    assert!(view.members.len() <= 6 && !view.is_dead(last), "{} members", view.members.len());
    // The files are swept after the sweep was answered; a question that is answered later comes after that.
    write(&directory, Vec::new()).await.unwrap();
    let files = std::fs::read_dir(folder.path().join("d.db.locks")).unwrap().count();
    assert_eq!(files, view.members.len(), "a lock file for each record, and no other");
}

#[tokio::test]
async fn the_watch_is_not_told_of_locations() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    let (here, there) = (open(&path), open(&path));
    let (a, group, _) = member(&there, "a").await;
    let (tell, views) = channel::<View>();
    here.watch(Box::new(move |view| drop(tell.send(view))));
    assert_eq!(views.recv_timeout(DEADLINE).unwrap().members[&a].renewals, 0);
    for n in 0..100 {
        write(&there, vec![place(&format!("s{n}"), group)]).await.unwrap();
        write(&here, vec![place(&format!("t{n}"), group)]).await.unwrap();
    }
    write(&there, vec![Write::Renew { incarnation: a }]).await.unwrap();
    assert_eq!(views.recv_timeout(DEADLINE).unwrap().members[&a].renewals, 1, "a view of nothing new came before");
    // A second watcher takes the place of the first, which is told nothing more.
    let (tell, second) = channel::<View>();
    here.watch(Box::new(move |view| drop(tell.send(view))));
    second.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(views.recv_timeout(DEADLINE), Err(std::sync::mpsc::RecvTimeoutError::Disconnected)));
    drop(here);
    assert!(second.recv_timeout(DEADLINE).is_err(), "the watch goes on without its directory");
}

#[test]
fn many_open_a_new_file_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("d.db");
    let options = SqliteOptions { busy_ms: 20_000, ..SqliteOptions::default() };
    std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8).map(|_| scope.spawn(|| SqliteDirectory::open(&path, options.clone()).map(drop))).collect();
        for opened in opening {
            assert_eq!(opened.join().unwrap(), Ok(()));
        }
    });
}

#[tokio::test]
async fn a_file_that_was_removed_or_replaced_is_written_to_no_more() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("directory.db");
    let first = open(&path);
    let me = first.register(draft("a"), 1).await.unwrap();
    let group = me.groups[0].0;
    assert!(matches!(write(&first, vec![place("one", group)]).await.unwrap(), Outcome::Applied { .. }));
    for file in ["directory.db", "directory.db-wal", "directory.db-shm"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    let gone = not_asked(write(&first, vec![place("two", group)]).await);
    assert!(gone.contains(path.to_str().unwrap()) && gone.contains("restart all nodes"), "{gone}");
    let second = open(&path);
    second.register(draft("b"), 1).await.unwrap();
    assert!(not_asked(write(&first, vec![place("two", group)]).await).contains("another file has its name"));
}

#[tokio::test]
async fn the_directory_of_another_cluster_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("directory.db");
    let of =
        |cluster: &str| SqliteDirectory::open(&path, SqliteOptions { cluster: cluster.to_owned(), ..SqliteOptions::default() });
    drop(of("shop").unwrap());
    drop(of("shop").unwrap());
    let Err(DirectoryError::NotAsked(why)) = of("other") else { panic!("it was opened") };
    assert!(why.contains("\"shop\"") && why.contains("\"other\"") && why.contains(path.to_str().unwrap()), "{why}");
    drop(open(&path));
}

/// A directory of before members had names for balancers, or places for requests, gets the columns when one opens it, and its members
/// have none.
#[tokio::test]
async fn a_directory_without_hints_gets_them() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("directory.db");
    let before = SqliteDirectory::open(&path, SqliteOptions::default()).unwrap();
    let a = before.register(draft("a"), 1).await.unwrap();
    drop(before);
    let older = "ALTER TABLE member DROP COLUMN hint; ALTER TABLE member DROP COLUMN requests; DROP TABLE secret;";
    Connection::open(&path).unwrap().execute_batch(older).unwrap();
    let now = SqliteDirectory::open(&path, SqliteOptions::default()).unwrap();
    let b = now.register(draft("b"), 1).await.unwrap();
    let seen = now.view().await.unwrap();
    let hints = [&a, &b].map(|member| seen.members.get(&member.incarnation).unwrap().draft.hint.clone());
    assert_eq!(hints, [String::new(), draft("b").hint]);
    let requests = [a, b].map(|member| seen.members.get(&member.incarnation).unwrap().draft.requests.clone());
    assert_eq!(requests, [String::new(), draft("b").requests]);
}

/// Whoever opens the same file knows the same secret; another file has another one.
#[tokio::test]
async fn members_of_one_directory_share_a_secret() {
    let folder = TempDir::new().unwrap();
    let open = |name: &str| SqliteDirectory::open(folder.path().join(name), SqliteOptions::default()).unwrap();
    let (first, second, other) = (open("directory.db"), open("directory.db"), open("other.db"));
    assert_eq!(first.secret(), second.secret());
    let before = first.secret();
    drop((first, second));
    assert_eq!(open("directory.db").secret(), before, "after a restart too");
    assert_ne!(other.secret(), before);
    assert_ne!(before, [0; 32]);
}

/// A directory of the version before the mode was recorded is brought to the present one: its sessions have owners.
#[tokio::test]
async fn a_directory_without_a_mode_gets_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("directory.db");
    let before = SqliteDirectory::open(&path, SqliteOptions::default()).unwrap();
    let a = before.register(draft("a"), 1).await.unwrap();
    drop(before);
    Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE mode; ALTER TABLE member DROP COLUMN confirmed; ALTER TABLE member DROP COLUMN hint; ALTER TABLE member DROP COLUMN requests; \
             PRAGMA user_version = 1;")
        .unwrap();
    let options = SqliteOptions { begins: wayfarer_engine::mode::Phase::Observe, ..SqliteOptions::default() };
    let now = SqliteDirectory::open(&path, options.clone()).unwrap();
    let seen = now.view().await.unwrap();
    assert_eq!(seen.mode, wayfarer_engine::mode::Mode::default(), "it is not new, so it does not begin as a new one would");
    assert!(seen.members.contains_key(&a.incarnation));
    now.register(draft("b"), 1).await.unwrap();
    let fresh = SqliteDirectory::open(folder.path().join("fresh.db"), options).unwrap();
    assert_eq!(fresh.view().await.unwrap().mode.phase, wayfarer_engine::mode::Phase::Observe);
}

#[tokio::test]
async fn a_thread_that_breaks_off_is_told() {
    let folder = TempDir::new().unwrap();
    let directory = open(&folder.path().join("directory.db"));
    directory.watch(Box::new(|_| {}));
    assert!(tokio::time::timeout(Duration::from_millis(50), directory.broken()).await.is_err(), "nothing has broken yet");
    // The first view is told at once, by the thread of the watch.
    directory.watch(Box::new(|_| panic!("the watcher breaks off, as this test wants it")));
    tokio::time::timeout(DEADLINE, directory.broken()).await.unwrap();
    // The other threads go on.
    assert!(directory.view().await.is_ok());
}
