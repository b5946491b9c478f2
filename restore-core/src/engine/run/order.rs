//! Work on several services at once, in the order in which they wait for each other.

use std::future::Future;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::engine::plan::PlannedService;

/// Stops the services, each after those that come after it; see [`in_order`].
pub(super) async fn stopping<F, Fut, E>(services: &[PlannedService], work: F) -> Result<(), E>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let waits = |one, other| comes_after(services, other, one);
    in_order(services.len(), waits, work).await
}

/// Starts the services, each after those that it waits for; see [`in_order`].
pub(super) async fn starting<F, Fut, E>(services: &[PlannedService], work: F) -> Result<(), E>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let waits = |one: usize, other| services[one].waits && comes_after(services, one, other);
    in_order(services.len(), waits, work).await
}

/// Whether a service comes after another. The services are in the order of stopping; a plan that
/// does not say what comes after what means that each comes after all that are stopped later.
fn comes_after(services: &[PlannedService], one: usize, other: usize) -> bool {
    match &services[one].after {
        Some(after) => after.contains(&services[other].name),
        None => one < other,
    }
}

/// Does the work of each of so many, once what it waits for is done; what does not wait is done
/// at the same time. After a failure nothing more is begun; what was begun is waited for, and the
/// first failure is given.
async fn in_order<F, Fut, E>(
    count: usize,
    waits: impl Fn(usize, usize) -> bool,
    work: F,
) -> Result<(), E>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>>,
{
    let mut left: Vec<usize> = (0..count).collect();
    let mut done: Vec<usize> = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut failed = None;
    loop {
        if failed.is_none() {
            let ready: Vec<usize> = left
                .iter()
                .copied()
                .filter(|one| {
                    (0..count)
                        .all(|other| other == *one || done.contains(&other) || !waits(*one, other))
                })
                .collect();
            left.retain(|one| !ready.contains(one));
            for one in ready {
                let work = work(one);
                running.push(async move { (one, work.await) });
            }
        }
        match running.next().await {
            Some((one, Ok(()))) => done.push(one),
            Some((_, Err(error))) => {
                failed.get_or_insert(error);
            }
            None => return failed.map_or(Ok(()), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    fn services(list: &[(&str, Option<&[&str]>)]) -> Vec<PlannedService> {
        list.iter()
            .map(|(name, after)| PlannedService {
                name: (*name).to_owned(),
                replicas: 1,
                start: 1,
                ran: None,
                background: false,
                after: after.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
                waits: true,
            })
            .collect()
    }

    /// What began and ended, in which order.
    async fn events(services: &[PlannedService], start: bool, fail: Option<&str>) -> Vec<String> {
        let seen = Mutex::new(Vec::new());
        let work = |at: usize| {
            let (seen, name) = (&seen, &services[at].name);
            async move {
                seen.lock().unwrap().push(format!("{name}+"));
                tokio::time::sleep(Duration::from_millis(10)).await;
                seen.lock().unwrap().push(format!("{name}-"));
                if fail == Some(name) { Err(()) } else { Ok(()) }
            }
        };
        let result = match start {
            true => starting(services, work).await,
            false => stopping(services, work).await,
        };
        assert_eq!(result.is_err(), fail.is_some());
        seen.into_inner().unwrap()
    }

    #[tokio::test]
    async fn without_more_they_follow_each_other() {
        let all = services(&[("c", None), ("b", None), ("a", None)]);
        assert_eq!(
            events(&all, false, None).await,
            ["c+", "c-", "b+", "b-", "a+", "a-"]
        );
        assert_eq!(
            events(&all, true, None).await,
            ["a+", "a-", "b+", "b-", "c+", "c-"]
        );
    }

    #[tokio::test]
    async fn what_does_not_wait_is_done_at_once() {
        let all = services(&[("c", Some(&["a"])), ("b", Some(&["a"])), ("a", Some(&[]))]);
        let stopped = events(&all, false, None).await;
        assert_eq!(stopped[..2], ["c+", "b+"]);
        assert_eq!(stopped[4..], ["a+", "a-"]);
        let started = events(&all, true, None).await;
        assert_eq!(started[..2], ["a+", "a-"]);
        assert_eq!(started[2..4], ["c+", "b+"]);
    }

    #[tokio::test]
    async fn what_comes_up_by_itself_is_started_at_once_and_stopped_in_order() {
        let mut all = services(&[("b", None), ("a", None)]);
        all[0].waits = false;
        assert_eq!(events(&all, true, None).await[..2], ["b+", "a+"]);
        assert_eq!(events(&all, false, None).await, ["b+", "b-", "a+", "a-"]);
    }

    #[tokio::test]
    async fn after_a_failure_nothing_is_begun_and_nothing_left_alone() {
        let all = services(&[("c", Some(&["a", "b"])), ("b", Some(&[])), ("a", Some(&[]))]);
        let mut seen = events(&all, true, Some("b")).await;
        seen.sort();
        assert_eq!(seen, ["a+", "a-", "b+", "b-"]);
    }
}
