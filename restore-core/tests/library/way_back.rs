//! Whether what components put aside is still there, looked at before anything is stopped; and what
//! runs keep, found without a journal.

use restore_core::component::SharedComponent;
use restore_core::platform::Discard;
use restore_core::run::{CutOver, RunContext};
use restore_testing::archives::{ID, Site, code, put};

/// A volume and its component, swapped.
async fn swapped_volume() -> (Site, SharedComponent, RunContext) {
    let site = Site::new();
    let volume = site.path("volume");
    put(volume.join("data"), "restored");
    site.pack(&format!("volumes/it-{ID}.tar.gz"), &volume, &["."]);
    put(volume.join("data"), "old");
    put(volume.join("more"), "old");
    let component = site.component(
        "
        [volumes.it]
        path = '@/volume'
        [components.it]
        kind = 'volume'
        volume = 'it'
        stops = []
        ",
    );
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    (site, component, cx.with_cut_over(CutOver::Done))
}

#[tokio::test]
async fn a_volume_whose_replaced_data_is_gone_is_no_way_back() {
    let (site, component, cx) = swapped_volume().await;
    component.way_back(&cx).await.unwrap();
    component.can_undo(&cx).await.unwrap();
    let replaced = site.path("volume").join(cx.run().folder()).join("replaced");
    std::fs::remove_file(replaced.join("more")).unwrap();
    let gone = component.way_back(&cx).await.unwrap_err();
    assert_eq!(gone.code(), "volume.kept_gone");
    assert!(gone.message().contains("more"), "{gone}");
    std::fs::remove_dir_all(site.path("volume").join(cx.run().folder())).unwrap();
    let gone = code(component.way_back(&cx).await);
    assert_eq!(gone, "volume.run_folder_missing");
    // Nothing is taken for undone, either.
    assert_eq!(code(component.undo(&cx).await), "volume.run_folder_missing");
}

#[tokio::test]
async fn what_a_run_keeps_is_found_without_its_journal() {
    let (_site, component, cx) = swapped_volume().await;
    let kept = component.kept_by_runs().await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(&kept[0].run, cx.run());
    assert!(kept[0].place.ends_with(&cx.run().folder()), "{kept:?}");
    assert!(kept[0].put_back.contains("/replaced"), "{kept:?}");
    component.discard(&cx, Discard::Replaced).await.unwrap();
    assert_eq!(component.kept_by_runs().await.unwrap(), []);
}

fn crontab(site: &Site, file: &str) -> SharedComponent {
    site.component(&format!(
        "[components.it]\nkind = 'crontab'\nfile = '@/{file}'"
    ))
}

async fn installed_crontab(old: &str) -> (Site, SharedComponent, RunContext) {
    let site = Site::new();
    let artifact = site.artifact(&format!("configs/crontab-{ID}.txt"));
    std::fs::write(artifact, "0 2 * * * /opt/backup.sh\n").unwrap();
    site.list();
    put(site.path("crontab"), old);
    let component = crontab(&site, "crontab");
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    (site, component, cx.with_cut_over(CutOver::Done))
}

#[tokio::test]
async fn another_crontab_than_the_one_that_was_replaced_is_no_way_back() {
    let (site, component, cx) = installed_crontab("0 3 * * * old\n").await;
    component.way_back(&cx).await.unwrap();
    let other = crontab(&site, "crontab2");
    assert_eq!(code(other.way_back(&cx).await), "crontab.other_place");
    assert_eq!(code(other.undo(&cx).await), "crontab.other_place");
    assert!(!site.path("crontab2").exists());
    let old = site.path("state/scratch").join(cx.run().as_str());
    std::fs::remove_file(old.join("it.crontab.old")).unwrap();
    assert_eq!(code(component.way_back(&cx).await), "crontab.old_gone");
}

#[tokio::test]
async fn a_crontab_that_an_undo_could_not_write_is_seen_before() {
    let (site, component, cx) = installed_crontab("0 3 * * * old\n").await;
    component.can_undo(&cx).await.unwrap();
    let path = site.path("crontab");
    std::fs::remove_file(&path).unwrap();
    component.can_undo(&cx).await.unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = component.can_undo(&cx).await.unwrap_err();
    assert!(refused.message().contains("crontab"), "{refused}");
    std::fs::remove_dir(&path).unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "0 3 * * * old\n");
}

/// Crontabs hold passwords: a copy that is needed no more goes, also where both texts are the same.
#[tokio::test]
async fn after_an_undo_no_copy_of_a_crontab_is_left() {
    for old in ["0 3 * * * old\n", "0 2 * * * /opt/backup.sh\n"] {
        let (site, component, cx) = installed_crontab(old).await;
        component.undo(&cx).await.unwrap();
        component.discard(&cx, Discard::Staged).await.unwrap();
        let left: Vec<_> = std::fs::read_dir(site.path("state/scratch"))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
