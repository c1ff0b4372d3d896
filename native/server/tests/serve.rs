//! A server on loopback, our own client against it: every service end to end, and who may do what.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use pyserver_proto::association::Limits;
use pyserver_proto::dataset::Dataset;
use pyserver_proto::file::{MetaFields, encode_part10};
use pyserver_proto::query::InformationModel;
use pyserver_proto::tag::Tag;
use pyserver_proto::transfer_syntax::TransferSyntax;
use pyserver_proto::uid::{Uid, VERIFICATION};
use pyserver_proto::vr::Vr;
use pyserver_server::Server;
use pyserver_server::client::{self, GetTarget};
use pyserver_server::identifier;
use pyserver_server::peers::{Compression, Destination, PeerEntry, Peers};
use pyserver_server::scu::{Caller, Proposal, Requestor};
use pyserver_server::settings::{Settings, UnknownPeers};
use pyserver_store::archive::Archive;
use pyserver_store::config::ArchiveConfig;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const KNOWN: &str = "KNOWN";
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with an archive of its own in a folder of its own.
struct Site {
    folder: PathBuf,
    server: Server,
    archive: Arc<Archive>,
}

impl Site {
    fn start(change: impl FnOnce(&mut Settings)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("serve-{}-{number}", std::process::id()));
        fs::create_dir_all(folder.join("data")).unwrap();
        let config = ArchiveConfig::new(&folder);
        let (archive, _) = Archive::open(config, &mut |_, _, _| ()).unwrap();
        let archive = Arc::new(archive);
        let mut settings = settings();
        change(&mut settings);
        let server = Server::new(Arc::clone(&archive), settings, None);
        server.start().unwrap();
        Self {
            folder,
            server,
            archive,
        }
    }

    fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    fn peer(&self) -> Destination {
        let port = self.address().port();
        Destination {
            ae: "SITE".into(),
            host: "127.0.0.1".into(),
            port,
            compression: Compression::default(),
        }
    }

    fn stat(&self, name: &str) -> u64 {
        self.server
            .stats()
            .iter()
            .find(|(n, _)| *n == name)
            .unwrap()
            .1
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.stop(Duration::from_secs(5));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn entry(ae: &str, port: u16) -> PeerEntry {
    PeerEntry {
        ae: ae.into(),
        host: "127.0.0.1".into(),
        port: port.to_string(),
        compression: Compression::default(),
    }
}

/// Joins one connection to another server until both ends close.
fn relay_one(listener: &TcpListener, to: SocketAddr) {
    let (near, _) = listener.accept().unwrap();
    let far = TcpStream::connect(to).unwrap();
    thread::scope(|scope| {
        for (mut from, mut to) in [(&near, &far), (&far, &near)] {
            scope.spawn(move || {
                let _broken = std::io::copy(&mut from, &mut to);
                let _gone = to.shutdown(Shutdown::Write);
            });
        }
    });
}

fn settings() -> Settings {
    let uids = |texts: &[&'static str]| texts.iter().map(|t| Uid::from_static(t)).collect();
    Settings {
        ae_title: "SITE".into(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        peers: Peers::new(vec![entry(KNOWN, 1)]),
        unknown_peers: UnknownPeers::Store,
        local_aes: Vec::new(),
        remote_aes: Vec::new(),
        storage_classes: uids(&[CT]),
        transfer_syntaxes: uids(&["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]),
        associations_max: 8,
        connections_max: 64,
        limits: Limits::default(),
        identifier_bytes_max: 1 << 20,
        dimse_timeout: PATIENCE,
        connect_timeout: PATIENCE,
        read_ahead: 5,
        read_ahead_bytes: 64 << 20,
        modes: HashMap::new(),
        incoming_compression: "un".into(),
        lossy_quality: 95,
        find_results_max: 0,
        computed_fields: true,
        export_converters: Vec::new(),
        has_mirrors: false,
        debug_level: 0,
    }
}

fn caller(ae: &str) -> Caller {
    Caller {
        calling_ae: ae.into(),
        connect_timeout: PATIENCE,
        dimse_timeout: PATIENCE,
        limits: Limits::default(),
    }
}

/// A CT image of one study; `number` makes it unique, `pixels` how large it is.
fn image(number: u32, pixels: usize) -> Dataset {
    let mut image = Dataset::new();
    image.put_text(Tag::SOP_CLASS_UID, CT);
    image.put_text(Tag::SOP_INSTANCE_UID, &format!("1.2.3.4.{number}"));
    image.put_text(Tag::MODALITY, "CT");
    image.put_text(Tag::PATIENT_NAME, "Serve^Test");
    image.put_text(Tag::PATIENT_ID, "P1");
    image.put_text(Tag::STUDY_INSTANCE_UID, "1.2.3");
    image.put_text(Tag::SERIES_INSTANCE_UID, "1.2.3.4");
    image.put_text(Tag::INSTANCE_NUMBER, &number.to_string());
    image.put_bytes(Tag::PIXEL_DATA, Vr::Ow, &vec![number as u8; pixels]);
    image
}

fn write_files(folder: &Path, syntax: TransferSyntax, images: &[Dataset]) -> Vec<PathBuf> {
    let write = |image: &Dataset| {
        let instance = image.text(Tag::SOP_INSTANCE_UID).unwrap();
        let mut bytes = encode_part10(&MetaFields {
            sop_class_uid: CT.as_bytes(),
            sop_instance_uid: instance.as_bytes(),
            transfer_syntax: syntax,
        });
        image.encode(syntax, &mut bytes);
        let path = folder.join(format!("{instance}.dcm"));
        fs::write(&path, bytes).unwrap();
        path
    };
    images.iter().map(write).collect()
}

/// Stores images with sizes around the limits of frames and journal.
fn filled() -> (Site, Vec<Dataset>) {
    let site = Site::start(|_| ());
    let images: Vec<Dataset> = [0, 2, 4096, 70_000, 600_000]
        .into_iter()
        .zip(1..)
        .map(|(p, n)| image(n, p))
        .collect();
    let files = write_files(&site.folder, TransferSyntax::ExplicitLittleEndian, &images);
    let report = client::send(
        &caller("ANYONE"),
        &site.peer(),
        &files,
        None,
        &mut |_, _| (),
    )
    .unwrap();
    assert_eq!(
        (report.sent, report.failures.len()),
        (5, 0),
        "{:?}",
        report.failures
    );
    (site, images)
}

fn keys(level: &str, pairs: &[(&str, &str)]) -> Dataset {
    let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), vec![(*v).to_owned()]);
    identifier::build(level, &pairs.iter().map(pair).collect::<Vec<_>>()).unwrap()
}

#[test]
fn echo_answers() {
    let site = Site::start(|_| ());
    let report = client::echo(&caller("ANYONE"), &site.peer()).unwrap();
    assert_eq!(report.status, 0);
    assert_eq!(report.implementation, "PYSERVER_010");
}

#[test]
fn what_was_stored_is_found_by_known_peers_only() {
    let (site, images) = filled();
    let query = keys(
        "image",
        &[("StudyInstanceUID", "1.2.3"), ("InstanceNumber", "")],
    );
    let model = InformationModel::StudyRoot;
    let found = client::find(&caller(KNOWN), &site.peer(), model, &query, 0).unwrap();
    assert_eq!(found.len(), images.len());
    let limited = client::find(&caller(KNOWN), &site.peer(), model, &query, 2).unwrap();
    assert_eq!(limited.len(), 2);
    let refused = client::find(&caller("STRANGER"), &site.peer(), model, &query, 0).unwrap_err();
    assert!(refused.to_string().contains("0124H"), "{refused}");
    assert_eq!(site.stat("stores"), 5);
}

#[test]
fn objects_come_back_as_they_were_sent() {
    let (site, images) = filled();
    let target = site.folder.join("got");
    fs::create_dir(&target).unwrap();
    let query = keys("study", &[("StudyInstanceUID", "1.2.3")]);
    for syntax in [
        TransferSyntax::EXPLICIT_LE_UID,
        TransferSyntax::IMPLICIT_LE_UID,
    ] {
        let report = client::get(
            &caller(KNOWN),
            &site.peer(),
            InformationModel::StudyRoot,
            &query,
            (&[Uid::from_static(CT)], &[syntax]),
            &GetTarget::Folder(target.clone()),
            &mut |_, _| (),
        )
        .unwrap();
        assert_eq!((report.status, report.completed, report.failed), (0, 5, 0));
        let expected = site.folder.join("expected");
        fs::create_dir_all(&expected).unwrap();
        for file in write_files(&expected, TransferSyntax::from_uid(&syntax), &images) {
            let got = target.join(file.file_name().unwrap());
            assert_eq!(fs::read(file).unwrap(), fs::read(got).unwrap());
        }
    }
}

#[test]
fn a_move_reaches_a_third_site_and_an_unknown_one_is_refused() {
    let third = Site::start(|_| ());
    let port = third.address().port();
    let (site, images) = filled();
    let mut changed = settings();
    changed.peers = Peers::new(vec![
        entry(KNOWN, 1),
        entry("THIRD", port),
        entry("CLOSED", 1),
    ]);
    site.server.reload(changed);
    let query = keys("study", &[("StudyInstanceUID", "1.2.3")]);
    let to = |destination: &str| {
        let model = InformationModel::StudyRoot;
        client::move_to(
            &caller(KNOWN),
            &site.peer(),
            model,
            &query,
            destination,
            &mut |_, _| (),
        )
        .unwrap()
    };
    let report = to("THIRD");
    assert_eq!((report.status, report.completed, report.failed), (0, 5, 0));
    assert_eq!(third.archive.counts().unwrap().images, images.len() as u64);
    assert_eq!(to("NOWHERE").status, 0xA801);
    let closed = to("CLOSED");
    assert_eq!((closed.status, closed.failed), (0xA702, 5));
}

#[test]
fn a_move_waits_for_a_receiver_that_opens_its_port_after_the_request() {
    let third = Site::start(|_| ());
    let (site, images) = filled();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap();
    drop(free);
    let mut changed = settings();
    changed.peers = Peers::new(vec![entry(KNOWN, 1), entry("LATE", port.port())]);
    site.server.reload(changed);
    let query = keys("study", &[("StudyInstanceUID", "1.2.3")]);
    let report = thread::scope(|scope| {
        scope.spawn(|| {
            while site.stat("moves") == 0 {
                thread::yield_now();
            }
            relay_one(&TcpListener::bind(port).unwrap(), third.address());
        });
        let (caller, model) = (caller(KNOWN), InformationModel::StudyRoot);
        let report = client::move_to(&caller, &site.peer(), model, &query, "LATE", &mut |_, _| ());
        let _frees_a_relay_nobody_came_to = TcpStream::connect(port);
        report
    });
    let report = report.unwrap();
    assert_eq!((report.status, report.completed, report.failed), (0, 5, 0));
    assert_eq!(third.archive.counts().unwrap().images, images.len() as u64);
}

#[test]
fn one_association_too_many_is_rejected_and_waiting_connections_take_no_slot() {
    let site = Site::start(|settings| settings.associations_max = 0);
    let rejected = client::echo(&caller("ANYONE"), &site.peer()).unwrap_err();
    assert!(
        rejected.to_string().contains("local limit exceeded"),
        "{rejected}"
    );
    let site = Site::start(|settings| settings.associations_max = 1);
    let mut half = TcpStream::connect(site.address()).unwrap();
    half.write_all(&[1, 0, 0]).unwrap();
    let _silent = TcpStream::connect(site.address()).unwrap();
    assert_eq!(
        client::echo(&caller("ANYONE"), &site.peer())
            .unwrap()
            .status,
        0
    );
}

#[test]
fn titles_are_judged() {
    let site = Site::start(|settings| {
        settings.local_aes = vec!["SITE".into()];
        settings.remote_aes = vec![KNOWN.into()];
    });
    assert!(client::echo(&caller(KNOWN), &site.peer()).is_ok());
    let stranger = client::echo(&caller("STRANGER"), &site.peer()).unwrap_err();
    assert!(
        stranger
            .to_string()
            .contains("calling AE title not recognised"),
        "{stranger}"
    );
    let mut other = site.peer();
    other.ae = "OTHER".into();
    let misdirected = client::echo(&caller(KNOWN), &other).unwrap_err();
    assert!(
        misdirected
            .to_string()
            .contains("called AE title not recognised"),
        "{misdirected}"
    );
    let site = Site::start(|settings| settings.unknown_peers = UnknownPeers::Refuse);
    assert!(client::echo(&caller(KNOWN), &site.peer()).is_ok());
    assert!(client::echo(&caller("STRANGER"), &site.peer()).is_err());
}

#[test]
fn garbage_is_answered_and_the_connection_closed() {
    let site = Site::start(|_| ());
    let mut stream = TcpStream::connect(site.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&7), "an A-ABORT: {answer:?}");
}

#[test]
fn stopping_waits_for_associations_and_then_aborts_them() {
    let site = Site::start(|_| ());
    let peer = site.peer();
    assert_eq!(client::echo(&caller("ANYONE"), &peer).unwrap().status, 0);
    let proposal = Proposal {
        abstract_syntax: Uid::from_static(VERIFICATION),
        transfer_syntaxes: vec![TransferSyntax::IMPLICIT_LE_UID],
        as_scp: false,
    };
    let mut open = Requestor::connect(&caller("OPEN"), &peer, &[proposal], "open".into()).unwrap();
    assert_eq!(open.echo().unwrap(), 0);
    assert!(!site.server.stop(Duration::ZERO), "an association was open");
    assert!(open.echo().is_err());
    assert!(client::echo(&caller("ANYONE"), &peer).is_err());
}
