//! Services that are pinned to a digest: they run that image because whoever described them does not take what a name
//! means on trust. Only a backup that is signed gives them another.

use super::{ImageComponent, SIGNED};
use crate::contract::{ImageUser, Images, RunContext};
use crate::model::{Error, ErrorKind, Finding, Result};

const HINT: &str = "sign backups (`sign_with` and `signed_by` of the store), or take the digest out of its description";

impl ImageComponent {
    /// Whether a service goes on with the image that it is pinned to, whatever the backup has.
    pub(super) fn stays(cx: &RunContext, user: &ImageUser) -> bool {
        let noted = cx.recall(SIGNED).and_then(|signed| signed.as_bool());
        let signed = noted.unwrap_or_else(|| cx.backup().signer().is_some());
        user.pinned && !user.resolved && !signed
    }

    /// That it does.
    pub(super) fn staying(service: &str) -> Finding {
        let message = "it is pinned to a digest and the backup is not signed: it goes on with the image that it has";
        Finding::warning("image.pinned_stays", service, message).hint(HINT)
    }

    /// Why a service that goes on with its image cannot: it does not run, and the engine has no such image.
    pub(super) async fn gone(images: &dyn Images, user: &ImageUser) -> Result<Option<Error>> {
        if !user.running.is_empty() || images.id(&user.image).await?.is_some() {
            return Ok(None);
        }
        let message = format!(
            "{} is pinned to {}, which is not there, and the backup is not signed: it is given no other image",
            user.service, user.image
        );
        Ok(Some(
            Error::new(ErrorKind::Preflight, "image.pinned_gone", message).hint(HINT),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::archive::Source;
    use crate::components::image::{LOADED, Section};
    use crate::contract::{Backup, LoadedImage, MemoryFacts, Platform, ServiceState, Volume};
    use crate::model::{Endpoint, NoEvents, Progress, RunId, Severity, Timestamp};
    use crate::stores::directory::DirectoryStore;
    use crate::sys::process::command::{Command, Process, Scratch};
    use crate::sys::space::Space;

    /// The images of an engine, of which one service runs one.
    struct Toy {
        user: ImageUser,
        names: Mutex<BTreeMap<String, String>>,
        given: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Images for Toy {
        async fn names(&self) -> Result<Vec<(String, String)>> {
            Ok(self.names.lock().unwrap().clone().into_iter().collect())
        }
        async fn id(&self, name: &str) -> Result<Option<String>> {
            Ok(self.names.lock().unwrap().get(name).cloned())
        }
        async fn load(&self, _: Source, _: Progress) -> Result<Vec<LoadedImage>> {
            unused()
        }
        async fn tag(&self, id: &str, name: &str) -> Result<()> {
            let mut names = self.names.lock().unwrap();
            names.insert(name.to_owned(), id.to_owned());
            Ok(())
        }
        async fn untag(&self, name: &str) -> Result<()> {
            self.names.lock().unwrap().remove(name);
            Ok(())
        }
        async fn users(&self, name: &str) -> Result<Vec<ImageUser>> {
            Ok(match name {
                "web:2" => vec![self.user.clone()],
                _ => Vec::new(),
            })
        }
        async fn run_image(&self, _service: &str, image: &str) -> Result<()> {
            self.given.lock().unwrap().push(image.to_owned());
            Ok(())
        }
        async fn free_space(&self) -> Result<Option<Space>> {
            Ok(None)
        }
    }

    fn unused<T>() -> Result<T> {
        Err(Error::new(ErrorKind::Internal, "test.unused", "not here"))
    }

    struct OfToy(Arc<Toy>);

    #[async_trait]
    impl Platform for OfToy {
        fn describe(&self) -> String {
            "a toy".to_owned()
        }
        fn services(&self) -> Vec<String> {
            vec!["web".to_owned()]
        }
        async fn service(&self, _: &str) -> Result<ServiceState> {
            unused()
        }
        async fn scale(&self, _: &str, _: u32) -> Result<()> {
            unused()
        }
        async fn exec(&self, _: &str, _: Command) -> Result<Box<dyn Process>> {
            unused()
        }
        async fn logs(&self, _: &str, _: Timestamp, _: usize) -> Result<Vec<String>> {
            unused()
        }
        async fn endpoint(&self, _: &str) -> Result<Endpoint> {
            unused()
        }
        async fn volume(&self, _: &str) -> Result<Arc<dyn Volume>> {
            unused()
        }
        async fn scratch(&self, _: &str, _: Command) -> Result<Box<dyn Scratch>> {
            unused()
        }
        async fn path_in(&self, _: &str, _: &Path) -> Result<Option<PathBuf>> {
            unused()
        }
        async fn owner(&self, _: &str) -> Result<Option<(u32, u32)>> {
            unused()
        }
        fn images(&self) -> Option<Arc<dyn Images>> {
            Some(self.0.clone())
        }
    }

    fn user(pinned: bool, resolved: bool) -> ImageUser {
        ImageUser {
            key: Some("web".to_owned()),
            pinned,
            resolved,
            running: vec!["sha256:old".to_owned()],
            ..ImageUser::new("shop_web", "web:2@sha256:ab")
        }
    }

    fn made(user: ImageUser, signer: Option<&str>) -> (Arc<Toy>, ImageComponent, RunContext) {
        let toy = Arc::new(Toy {
            user,
            names: Mutex::new(BTreeMap::from([(
                "web:2".to_owned(),
                "sha256:old".to_owned(),
            )])),
            given: Mutex::default(),
        });
        let component = ImageComponent {
            name: "images".to_owned(),
            section: Section {
                archive: Vec::new(),
                stops: vec!["web".to_owned()],
                images: Vec::new(),
                max_bytes: 0,
            },
            platform: Arc::new(OfToy(toy.clone())),
        };
        let store = Arc::new(DirectoryStore::new("/nowhere"));
        let backup = Backup::by_name(store, "20240215-020000".parse().unwrap());
        let cx = RunContext::new(
            RunId::generate(),
            "images",
            Arc::new(backup.signed_by(signer.map(str::to_owned))),
            Arc::new(MemoryFacts::default()),
            Arc::new(NoEvents),
            CancellationToken::new(),
        );
        (toy, component, cx)
    }

    /// The images that the service is given by a cut-over; `noted`: what staging wrote down.
    async fn given(user: ImageUser, signer: Option<&str>, noted: Option<bool>) -> Vec<String> {
        let (toy, component, cx) = made(user, signer);
        let loaded = json!([{"id": "sha256:new", "tags": ["web:2"]}]);
        cx.record(LOADED, loaded).await.unwrap();
        if let Some(signed) = noted {
            cx.record(SIGNED, signed).await.unwrap();
        }
        component.move_names(&cx).await.unwrap();
        assert_eq!(
            toy.id("web:2").await.unwrap().as_deref(),
            Some("sha256:new")
        );
        let given = toy.given.lock().unwrap().clone();
        if toy.user.pinned && given.is_empty() {
            let outcomes = component.prove(&cx).await.unwrap();
            assert!(outcomes.iter().all(|it| it.passed), "{outcomes:?}");
        }
        given
    }

    #[tokio::test]
    async fn only_a_signed_backup_replaces_an_image_that_is_pinned() {
        assert_eq!(given(user(true, false), None, None).await, [""; 0]);
        assert_eq!(given(user(true, false), None, Some(false)).await, [""; 0]);
        let new = ["sha256:new"];
        assert_eq!(given(user(true, false), Some("K"), None).await, new);
        // A run that is taken up knows of the backup what it has written down.
        assert_eq!(given(user(true, false), None, Some(true)).await, new);
        // What the platform has pinned by itself is as its description says.
        assert_eq!(given(user(true, true), None, None).await, new);
        assert_eq!(given(user(false, false), None, None).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_stays_is_told_and_must_be_there() {
        let gone = ImageUser {
            running: Vec::new(),
            ..user(true, false)
        };
        for (user, signer, code, severity) in [
            (
                user(true, false),
                None,
                "image.pinned_stays",
                Severity::Warning,
            ),
            (gone.clone(), None, "image.pinned_gone", Severity::Error),
            (user(true, false), Some("K"), "", Severity::Info),
            (gone, Some("K"), "", Severity::Info),
        ] {
            let (toy, component, cx) = made(user, signer);
            let mut findings = Vec::new();
            let of = ("web:2", "sha256:old");
            let looked = component.look_at_users(&cx, toy.as_ref(), of, &mut findings);
            looked.await.unwrap();
            let told = findings.iter().find(|it| it.code.contains("pinned"));
            match code {
                "" => assert_eq!(told, None),
                code => {
                    let told = told.unwrap();
                    assert_eq!((told.code.as_str(), told.severity), (code, severity));
                    assert!(told.hint.as_ref().unwrap().contains("sign_with"));
                }
            }
            // The name alone is no reason to take it.
            let taken = component.may_take(&cx, toy.as_ref(), "other.tar", "web:2");
            assert_eq!(taken.await.unwrap(), signer.is_some());
        }
    }
}
