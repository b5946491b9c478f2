//! The steps of a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contract::HookMoment;

/// The part of a run that a step belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// A copy of what is live, before anything is made or replaced.
    Before,
    /// Beside the live data, while the platform serves.
    Stage,
    /// Stopped, swapped and started again while the platform serves: what users do not see.
    Background,
    /// The downtime.
    CutOver,
    /// After users were let in.
    After,
    /// What was done is taken back. No step of a plan is of it: an undo is never planned.
    Undo,
}

/// One step of a run; its `Display` form is its id (`cut-over:redis`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Step {
    /// Back up what is live.
    SafetyBackup,
    /// Make what of a component's live side is absent.
    Create(String),
    /// Bring a component's data beside the live data.
    Stage(String),
    /// Turn users away.
    MaintenanceOn,
    /// Stop a service and wait until it is gone.
    Stop(String),
    /// Make a component's staged data live.
    CutOver(String),
    /// Deploy what a component restored (a stack's compose files) and wait until it runs.
    Deploy(String),
    /// Start a service and wait until it is ready.
    Start(String),
    /// Every component's own proof, and the site's checks behind the page.
    CheckInside,
    /// Let users in again.
    MaintenanceOff,
    /// The site's checks through the users' door.
    CheckOutside,
    /// Call a hook of the site.
    Hook(HookMoment, String),
}

impl Step {
    /// The part of the run that it belongs to.
    pub fn phase(&self) -> Phase {
        match self {
            Self::SafetyBackup => Phase::Before,
            Self::Create(_) | Self::Stage(_) | Self::Hook(HookMoment::BeforeStop, _) => {
                Phase::Stage
            }
            Self::CheckOutside | Self::Hook(HookMoment::OnSuccess | HookMoment::OnFailure, _) => {
                Phase::After
            }
            _ => Phase::CutOver,
        }
    }

    /// The step in words.
    pub fn describe(&self) -> String {
        match self {
            Self::SafetyBackup => "back up what is live now".to_owned(),
            Self::Create(name) => format!("make what is absent of {name}"),
            Self::Stage(name) => format!("stage {name} beside the live data"),
            Self::MaintenanceOn => "show the maintenance page".to_owned(),
            Self::Stop(name) => format!("stop {name}"),
            Self::CutOver(name) => format!("swap {name}"),
            Self::Deploy(name) => format!("deploy what {name} restored"),
            Self::Start(name) => format!("start {name}"),
            Self::CheckInside => "check the platform behind the page".to_owned(),
            Self::MaintenanceOff => "take the maintenance page down".to_owned(),
            Self::CheckOutside => "check the platform as its users see it".to_owned(),
            Self::Hook(when, name) => format!("call the hook {name} ({when})"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SafetyBackup => f.write_str("backup:safety"),
            Self::Create(name) => write!(f, "create:{name}"),
            Self::Stage(name) => write!(f, "stage:{name}"),
            Self::MaintenanceOn => f.write_str("maintenance:on"),
            Self::Stop(name) => write!(f, "stop:{name}"),
            Self::CutOver(name) => write!(f, "cut-over:{name}"),
            Self::Deploy(name) => write!(f, "deploy:{name}"),
            Self::Start(name) => write!(f, "start:{name}"),
            Self::CheckInside => f.write_str("check:inside"),
            Self::MaintenanceOff => f.write_str("maintenance:off"),
            Self::CheckOutside => f.write_str("check:outside"),
            Self::Hook(when, name) => write!(f, "hook:{when}:{name}"),
        }
    }
}

impl From<Step> for String {
    fn from(step: Step) -> Self {
        step.to_string()
    }
}

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a step");
        let (verb, name) = text.split_once(':').ok_or_else(bad)?;
        Ok(match (verb, name) {
            ("backup", "safety") => Self::SafetyBackup,
            ("maintenance", "on") => Self::MaintenanceOn,
            ("maintenance", "off") => Self::MaintenanceOff,
            ("check", "inside") => Self::CheckInside,
            ("check", "outside") => Self::CheckOutside,
            ("create", name) => Self::Create(name.to_owned()),
            ("stage", name) => Self::Stage(name.to_owned()),
            ("stop", name) => Self::Stop(name.to_owned()),
            ("cut-over", name) => Self::CutOver(name.to_owned()),
            ("deploy", name) => Self::Deploy(name.to_owned()),
            ("start", name) => Self::Start(name.to_owned()),
            ("hook", rest) => {
                let (when, name) = rest.split_once(':').ok_or_else(bad)?;
                let when = HookMoment::of(when).ok_or_else(bad)?;
                Self::Hook(when, name.to_owned())
            }
            _ => return Err(bad()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back() {
        for step in [
            Step::SafetyBackup,
            Step::Create("x".into()),
            Step::Stage("a:b".into()),
            Step::MaintenanceOn,
            Step::Stop("x".into()),
            Step::CutOver("x".into()),
            Step::Deploy("x".into()),
            Step::Start("x".into()),
            Step::CheckInside,
            Step::MaintenanceOff,
            Step::CheckOutside,
            Step::Hook(HookMoment::BeforeStop, "a:b".into()),
            Step::Hook(HookMoment::OnFailure, "x".into()),
        ] {
            assert_eq!(Step::try_from(step.to_string()), Ok(step));
        }
        for text in ["fly:x", "hook:x", "hook:never:x"] {
            assert!(Step::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
