//! What ends a packing: a full sink, a missing tree, a cancel.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::super::super::{Sink, SinkFile};
use super::super::{Compression, pack};
use super::{Ground, Plain, volume};
use crate::model::{ErrorKind, Progress};

#[tokio::test]
async fn a_full_sink_and_a_missing_tree_are_errors() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl SinkFile for Full {
        fn seal(self: Box<Self>) -> std::io::Result<()> {
            Ok(())
        }
    }
    let ground = Ground::new();
    ground.write("large", vec![7; 9_000_000]);
    let failed = Arc::<std::sync::atomic::AtomicBool>::default();
    let sink = Sink::new("archive", Box::new(Full)).telling(failed.clone());
    let error = pack(
        &ground.tree,
        volume(Compression::None),
        sink,
        Progress::hidden(),
        CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert_eq!(error.code(), "io.disk_full", "{error}");
    assert!(failed.load(std::sync::atomic::Ordering::Relaxed));

    std::fs::remove_dir_all(&ground.tree).unwrap();
    let error = ground.pack(volume(Compression::None)).await.unwrap_err();
    assert_eq!(error.code(), "volume.missing", "{error}");

    let ground = Ground::new();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let file = std::fs::File::create(&ground.archive).unwrap();
    let error = pack(
        &ground.tree,
        volume(Compression::None),
        Sink::new("x", Box::new(Plain(file))),
        Progress::hidden(),
        cancel,
    )
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
}
