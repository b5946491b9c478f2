//! The steps of a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

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
}

impl Step {
    /// The part of the run that it belongs to.
    pub fn phase(&self) -> Phase {
        match self {
            Self::SafetyBackup => Phase::Before,
            Self::Create(_) | Self::Stage(_) => Phase::Stage,
            Self::CheckOutside => Phase::After,
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
        ] {
            assert_eq!(Step::try_from(step.to_string()), Ok(step));
        }
        assert!(Step::try_from("fly:x".to_owned()).is_err());
    }
}
