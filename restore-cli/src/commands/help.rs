//! `restore help [TOPIC]`.

use clap::CommandFactory as _;
use restore_core::{Error, ErrorKind, Result};
use serde_json::json;

use crate::args::Args;
use crate::printer::Answer;
use crate::topics::{self, TOPICS, Topic};

/// The text about a topic, or the help of a command; without either the list of topics.
pub(super) fn help(words: &[String]) -> Result<Answer> {
    if words.is_empty() {
        let names: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
        let text = format!(
            "Topics, each at most two screens (restore help TOPIC):\n\n{}\n\
             Commands: restore --help, restore help COMMAND\n",
            topics::list()
        );
        return Answer::new("topics", &names, text);
    }
    if let Some(topic) = Topic::named(words) {
        let value = json!({ "topic": topic.name, "title": topic.title(), "text": topic.body() });
        return Answer::new("help", &value, topic.text());
    }
    if let Some(text) = of_command(words) {
        return Answer::new(
            "help",
            &json!({ "command": words.join(" "), "text": text }),
            text,
        );
    }
    let names: Vec<&str> = TOPICS.iter().map(|topic| topic.name).collect();
    Err(Error::new(
        ErrorKind::Config,
        "cli.no_topic",
        format!("there is no topic and no command {:?}", words.join(" ")),
    )
    .hint(format!(
        "topics: {}; `restore --help` lists the commands",
        names.join(", ")
    )))
}

/// What `restore COMMAND --help` says.
fn of_command(words: &[String]) -> Option<String> {
    let mut all = Args::command();
    all.build();
    let mut command = &mut all;
    for word in words {
        command = command.find_subcommand_mut(word)?;
    }
    Some(command.render_long_help().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        help(&words).map(|answer| answer.text)
    }

    #[test]
    fn topics_and_commands_are_explained() {
        for topic in TOPICS {
            let list = asked("").unwrap();
            assert!(
                list.contains(topic.name) && list.contains(topic.title()),
                "{list}"
            );
            assert!(asked(topic.name).unwrap().ends_with(topic.body()));
        }
        let run = asked("run").unwrap();
        assert!(run.contains("Usage: restore run [OPTIONS] <ID>"), "{run}");
        let check = asked("config check").unwrap();
        assert!(check.contains("Usage: restore config check"), "{check}");
    }

    #[test]
    fn an_unknown_one_names_those_that_there_are() {
        let error = asked("disaster").unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Config, "cli.no_topic")
        );
        let hint = error.hint_text().unwrap();
        assert!(
            TOPICS.iter().all(|topic| hint.contains(topic.name)),
            "{hint}"
        );
    }
}
