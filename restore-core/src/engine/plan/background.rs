//! What can be swapped while users are served, because they do not see what it stops.

use super::PlannedComponent;

/// Marks the components that stop services of `background` and no others. A service that some
/// other component stops too, or that the site stops in any case (`stop`), is stopped with what
/// users see: no service is stopped twice.
pub(super) fn mark(components: &mut [PlannedComponent], background: &[String], stop: &[String]) {
    let mut unseen: Vec<&String> = background
        .iter()
        .filter(|name| !stop.contains(name))
        .collect();
    let fits = |component: &PlannedComponent, unseen: &[&String]| {
        component.deploys.is_none()
            && !component.stops.is_empty()
            && component.stops.iter().all(|name| unseen.contains(&name))
    };
    loop {
        let before = unseen.len();
        for component in components.iter() {
            if !fits(component, &unseen) {
                unseen.retain(|name| !component.stops.contains(name));
            }
        }
        if unseen.len() == before {
            break;
        }
    }
    for component in components {
        component.background = fits(component, &unseen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Inspection;

    fn component(name: &str, stops: &[&str]) -> PlannedComponent {
        PlannedComponent {
            name: name.to_owned(),
            kind: "volume".to_owned(),
            paths: Vec::new(),
            stops: stops.iter().map(|stop| (*stop).to_owned()).collect(),
            background: false,
            deploys: None,
            inspection: Inspection::default(),
        }
    }

    fn marked(components: &[(&str, &[&str])], background: &[&str], stop: &[&str]) -> Vec<String> {
        let own = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let mut made: Vec<PlannedComponent> = components
            .iter()
            .map(|(name, stops)| component(name, stops))
            .collect();
        mark(&mut made, &own(background), &own(stop));
        made.retain(|component| component.background);
        made.into_iter().map(|component| component.name).collect()
    }

    #[test]
    fn only_what_stops_nothing_that_users_see() {
        let all: &[(&str, &[&str])] = &[
            ("postgres", &["app"]),
            ("metrics", &["prometheus"]),
            ("metrics-config", &["prometheus"]),
            ("boards", &["grafana"]),
            ("scripts", &[]),
        ];
        assert_eq!(
            marked(all, &["prometheus", "grafana"], &[]),
            ["metrics", "metrics-config", "boards"]
        );
        assert_eq!(
            marked(all, &["prometheus", "grafana"], &["grafana"]),
            ["metrics", "metrics-config"]
        );
        assert!(marked(all, &[], &[]).is_empty());
    }

    #[test]
    fn a_service_is_stopped_once() {
        // What needs two services drags the other of them along, and what needs that.
        let all: &[(&str, &[&str])] = &[
            ("both", &["app", "prometheus"]),
            ("two", &["prometheus", "grafana"]),
            ("boards", &["grafana"]),
            ("alerts", &["alertmanager"]),
        ];
        assert_eq!(
            marked(all, &["prometheus", "grafana", "alertmanager"], &[]),
            ["alerts"]
        );
    }
}
