#![allow(clippy::unwrap_used)] // tests

use std::io::Write;

use super::*;

const SYNTAX: TransferSyntax = TransferSyntax::ExplicitLittleEndian;

/// A pool whose workers are this Python program, after `import`s and `receive`/`answer` helpers.
fn pool(program: &str, workers: usize, timeout: Duration) -> CodecPool {
    let text = format!(
        "import os, socket, sys, time\n\
         peer = socket.socket(fileno=0)\n\
         while True:\n    \
             request, files, _, _ = socket.recv_fds(peer, 4096, 2)\n    \
             if not request: break\n    \
             words = request.decode().split()\n    \
             data = os.pread(files[0], int(words[1]), int(words[0]))\n    \
             {program}\n    \
             for file in files: os.close(file)\n"
    );
    CodecPool::new(PoolConfig {
        command: ["python3", "-c", &text].map(str::to_owned).to_vec(),
        workers,
        timeout,
        object_bytes_max: 1000,
        held_bytes_max: 1000,
    })
}

fn transcode(pool: &CodecPool, data: &[u8]) -> Result<Transcoded, CodecError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"head").unwrap();
    file.write_all(data).unwrap();
    let source = Source {
        file: file.as_fd(),
        offset: 4,
        length: data.len() as u64,
        syntax: SYNTAX,
    };
    let wish = Wish::Mode {
        name: "j 1".into(),
        quality: 95,
    };
    pool.transcode(&source, &wish)
}

const PATIENT: Duration = Duration::from_secs(60);

#[test]
fn a_result_comes_back_in_its_syntax() {
    let program = "os.pwrite(files[1], data[::-1], 0); os.ftruncate(files[1], len(data)); \
                   peer.send(f'done 1.2.840.10008.1.2.5 {len(data)} 2.25.7'.encode())";
    let pool = pool(program, 1, PATIENT);
    for data in [b"abc".as_slice(), b"defgh"] {
        let Transcoded::New(new, uid) = transcode(&pool, data).unwrap() else {
            panic!("kept");
        };
        let mut text = Vec::new();
        new.pieces(|piece| {
            text.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        assert!(text.iter().eq(data.iter().rev()));
        assert_eq!(new.length, data.len() as u64);
        assert_eq!(new.syntax.uid(), "1.2.840.10008.1.2.5");
        assert!(uid.is_some_and(|uid| uid == "2.25.7"));
    }
    assert_eq!(pool.state.lock().count, 1);
}

#[test]
fn a_request_keeps_its_words() {
    let pool = pool(
        "peer.send(b'failed ' + b'|'.join(request.split()))",
        1,
        PATIENT,
    );
    let error = transcode(&pool, b"abc").unwrap_err().to_string();
    assert_eq!(error, "4|3|1.2.840.10008.1.2.1|mode|j1|95");
}

#[test]
fn a_worker_that_dies_or_lies_costs_one_object() {
    let program = "if data == b'die': os._exit(3)\n    \
                   peer.send(b'done 1.2 99' if data == b'lie' else b'kept')";
    let pool = pool(program, 1, PATIENT);
    for fault in [b"die", b"lie"] {
        assert!(matches!(transcode(&pool, fault), Err(CodecError::Died)));
        assert_eq!(pool.state.lock().count, 0);
        assert!(matches!(transcode(&pool, b"ok"), Ok(Transcoded::Kept)));
    }
}

#[test]
fn a_worker_that_hangs_is_replaced() {
    let program = "time.sleep(3600 if data == b'hang' else 0); peer.send(b'kept')";
    let mut pool = pool(program, 1, Duration::from_millis(20));
    assert!(matches!(
        transcode(&pool, b"hang"),
        Err(CodecError::Late(_))
    ));
    pool.config.timeout = PATIENT;
    assert!(matches!(transcode(&pool, b"ok"), Ok(Transcoded::Kept)));
}

#[test]
fn jobs_beyond_the_workers_wait_for_one() {
    let pool = pool("peer.send(b'kept')", 2, PATIENT);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert!(matches!(transcode(&pool, b"x"), Ok(Transcoded::Kept))));
        }
    });
    assert!(pool.state.lock().count <= 2);
}

#[test]
fn what_is_too_large_or_has_no_program_is_refused() {
    let pool = pool("peer.send(b'kept')", 1, PATIENT);
    let error = transcode(&pool, &[0; 1001]).unwrap_err();
    assert!(matches!(error, CodecError::TooLarge { .. }));
    assert_eq!(pool.state.lock().count, 0);
    let mut broken = CodecPool::new(pool.config.clone());
    broken.config.command = vec!["/no/such/program".into()];
    for _ in 0..2 {
        assert!(matches!(
            transcode(&broken, b"x"),
            Err(CodecError::System(_))
        ));
    }
}

fn mode(name: &str, keeps_nki: bool) -> Wish {
    Wish::to_store(name, 95, keeps_nki)
}

#[test]
fn modes_without_work_go_straight_to_the_disk() {
    let jpeg = TransferSyntax::Encapsulated("1.2.840.10008.1.2.4.70".parse().unwrap());
    for name in ["as", "is", "ui", "s3", "v0", ""] {
        let wish = mode(name, true);
        assert!(
            wish.leaves_alone(SYNTAX) && wish.leaves_alone(jpeg),
            "{name}"
        );
    }
    for name in ["un", "ul", "ub", "uj", "n0"] {
        let wish = mode(name, true);
        assert!(
            wish.leaves_alone(SYNTAX) && !wish.leaves_alone(jpeg),
            "{name}"
        );
    }
    let implicit = TransferSyntax::ImplicitLittleEndian;
    assert!(mode("un", true).leaves_alone(implicit) && !mode("ul", true).leaves_alone(implicit));
    for name in ["j2", "n4", "k1", "r1"] {
        let wish = mode(name, true);
        assert!(
            !wish.leaves_alone(SYNTAX) && !wish.leaves_alone(jpeg),
            "{name}"
        );
    }
}

#[test]
fn nki_is_for_files_that_keep_it() {
    let name = |wish| match wish {
        Wish::Mode { name, .. } => name,
        Wish::Syntax { .. } => unreachable!(),
    };
    assert_eq!(name(mode(" N4", true)), "n4");
    assert_eq!(name(mode("N4", false)), "un");
    assert_eq!(name(mode("nj", false)), "uj");
    assert_eq!(name(mode("J2", false)), "j2");
}
