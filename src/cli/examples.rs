//! An example or more for each command, below its help, in the manual pages and in docs/COMMANDS.md. A test reads each of them as
//! a command line, so that none shows what does not exist.

use clap::Command;

/// Commands by their words, each with its examples.
#[rustfmt::skip]
const EXAMPLES: &[(&str, &[&str])] = &[
    ("dev", &["liminal dev", "liminal dev --nodes 1"]),
    ("serve", &["liminal serve --config /etc/liminal/liminal.toml", "liminal serve --config n1.toml --set limits.message_bytes=2MiB"]),
    ("publish", &[
        "liminal publish orders '{\"id\":7}' --key order-7",
        "liminal publish orders --file orders.ndjson --key-pointer /id",
        "liminal publish reminders 'call back' --delay 10m",
    ]),
    ("subscribe", &[
        "liminal subscribe orders --from earliest",
        "liminal subscribe orders --from 15m --where 'amount > 100'",
        "liminal -o raw subscribe orders --consumer billing",
    ]),
    ("request", &["liminal request sums '{\"add\":[1,2]}' --timeout 2s"]),
    ("reply", &[
        "liminal reply sums --exec './add.sh' --consumer adders",
        "liminal reply 1.2 '3'",
    ]),
    ("channel create", &["liminal channel create orders --schema order.json --max-age 30d", "liminal channel create jobs --work-queue"]),
    ("channel list", &["liminal channel list", "liminal -o json channel ls"]),
    ("channel show", &["liminal channel show orders"]),
    ("channel update", &["liminal channel update orders --schema order2.json --dry-run", "liminal channel update orders --max-age 7d"]),
    ("channel schemas", &["liminal channel schemas orders"]),
    ("channel validate", &["liminal channel validate orders --schema order2.json --from 7d"]),
    ("channel trim", &["liminal channel trim orders --keep 1000", "liminal channel trim orders --older-than 7d --yes"]),
    ("channel export", &["liminal channel export orders orders.ndjson", "liminal channel export orders orders.ndjson --resume"]),
    ("channel import", &["liminal channel import orders orders.ndjson", "liminal channel import orders orders.ndjson --from 7.2.000000ab.41"]),
    ("channel delayed list", &["liminal channel delayed list reminders"]),
    ("channel delayed withdraw", &["liminal channel delayed withdraw reminders 3"]),
    ("channel delete", &["liminal channel delete orders --yes"]),
    ("rule put", &["liminal rule put orders large-orders --where 'amount > 1000'"]),
    ("rule list", &["liminal rule list"]),
    ("rule delete", &["liminal rule delete orders large-orders --yes"]),
    ("claim take", &["liminal claim take mails welcome-7 --lease 1m"]),
    ("claim complete", &["liminal claim complete mails welcome-7 12 'sent'"]),
    ("claim release", &["liminal claim release mails welcome-7 12"]),
    ("claim renew", &["liminal claim renew mails welcome-7 12 --lease 1m"]),
    ("claim show", &["liminal claim show mails welcome-7"]),
    ("claim namespaces", &["liminal claim namespaces"]),
    ("claim keep", &["liminal claim keep mails 30d"]),
    ("claim forget", &["liminal claim forget mails --yes"]),
    ("consumer create", &[
        "liminal consumer create orders billing --max-attempts 5",
        "liminal consumer create orders mailer --order key:customer --where 'amount > 0'",
    ]),
    ("consumer list", &["liminal consumer list orders"]),
    ("consumer show", &["liminal consumer show orders billing"]),
    ("consumer update", &["liminal consumer update orders billing --ack-timeout 2m"]),
    ("consumer reset", &["liminal consumer reset orders billing --to 15m"]),
    ("consumer delete", &["liminal consumer delete orders billing --yes"]),
    ("consumer next", &[
        "liminal consumer next orders billing --wait 30s",
        "liminal -o raw consumer next orders billing --save-token token",
    ]),
    ("consumer ack", &["liminal consumer ack orders billing \"$(cat token)\""]),
    ("consumer nack", &["liminal consumer nack orders billing \"$(cat token)\" --delay 1m --reason 'no address'"]),
    ("consumer dead-letters", &["liminal consumer dead-letters orders billing --limit 10"]),
    ("consumer redrive", &["liminal consumer redrive orders billing --yes"]),
    ("health", &["liminal health", "liminal --server https://n1:7101 health"]),
    ("cluster status", &["liminal cluster status", "liminal -o json cluster status"]),
    ("cluster events", &["liminal cluster events"]),
    ("cluster invite", &["liminal cluster invite --description n4 --lifetime 30m"]),
    ("cluster join", &["liminal cluster join n4"]),
    ("cluster promote", &["liminal cluster promote n4"]),
    ("cluster remove", &["liminal cluster remove n4"]),
    ("cluster transfer", &["liminal cluster transfer n2"]),
    ("cluster snapshot", &["liminal cluster snapshot"]),
    ("cluster verify", &["liminal cluster verify", "liminal cluster verify --deep --rate 16MiB"]),
    ("cluster backup", &["liminal cluster backup monday.backup"]),
    ("cluster restore", &["liminal cluster restore monday.backup --config n1.toml"]),
    ("definitions export", &["liminal definitions export cluster.json", "liminal definitions export --only channels,consumers"]),
    ("definitions import", &["liminal definitions import cluster.json"]),
    ("definitions apply", &["liminal definitions apply cluster.json --dry-run", "liminal definitions apply cluster.json --yes"]),
    ("top", &["liminal top", "liminal top --once", "liminal top --interval 5s"]),
    ("doctor", &["liminal doctor", "liminal doctor --config /etc/liminal/liminal.toml", "liminal -o json --server https://n1:7101 doctor"]),
    ("context create", &["liminal context create prod --server https://n1:7101,https://n2:7101 --ca ca.pem --token-file prod.token"]),
    ("context list", &["liminal context list"]),
    ("context use", &["liminal context use prod", "liminal context use --none"]),
    ("context show", &["liminal context show"]),
    ("context delete", &["liminal context delete prod"]),
    ("token create", &["liminal token create --role shop --description 'the shop' --lifetime 90d"]),
    ("token list", &["liminal token list"]),
    ("token show", &["liminal token show 00000000000000ff"]),
    ("token revoke", &["liminal token revoke 00000000000000ff"]),
    ("token rotate", &["liminal -o raw token rotate 00000000000000ff --yes"]),
    ("token bootstrap", &["liminal token bootstrap"]),
    ("role create", &["liminal role create shop --grant 'channel:orders.*=publish,read' --grant claim:mails=claim"]),
    ("role update", &["liminal role update shop --grant 'channel:orders.*=publish'"]),
    ("role list", &["liminal role list"]),
    ("role show", &["liminal role show shop"]),
    ("role quota", &["liminal role quota shop --publish-rate 1000/s --streams 50", "liminal role quota shop --clear"]),
    ("role delete", &["liminal role delete shop --yes"]),
    ("auth can-i", &["liminal auth can-i publish channel:orders"]),
    ("bench publish", &["liminal bench publish"]),
    ("bench fanout", &["liminal bench fanout"]),
    ("bench replay", &["liminal bench replay"]),
    ("bench failover", &["liminal bench failover"]),
    ("bench floor", &["liminal bench floor"]),
    ("certs", &["liminal certs tls --node n1,n2,n3 --host broker.example.com"]),
    ("config check", &["liminal config check liminal.toml"]),
    ("config show", &["liminal config show liminal.toml"]),
    ("completions", &["liminal completions bash > /etc/bash_completion.d/liminal"]),
    ("man", &["liminal man /usr/local/share/man/man1"]),
];

/// The commands with their examples below their help.
pub(super) fn with_examples(mut root: Command) -> Command {
    for (path, examples) in EXAMPLES {
        root = at(root, path, &|command| {
            let mut text = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
            text.push_str("Examples:");
            for example in *examples {
                text.push_str("\n  ");
                text.push_str(example);
            }
            command.after_help(text)
        });
    }
    root
}

/// Changes the command of a path.
fn at(command: Command, path: &str, change: &dyn Fn(Command) -> Command) -> Command {
    let (name, rest) = path.split_once(' ').map_or((path, None), |(name, rest)| (name, Some(rest)));
    command.mut_subcommand(name, |below| match rest {
        Some(rest) => at(below, rest, change),
        None => change(below),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::command_line, *};

    /// The words of a line as a shell reads them, up to where its output goes.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in line.chars() {
            match (c, quote) {
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (' ', None) => words.push(std::mem::take(&mut word)),
                (c, _) => word.push(c),
            }
        }
        words.push(word);
        let end = words.iter().position(|word| word == ">").unwrap_or(words.len());
        words.truncate(end);
        words
    }

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        let mut below = command.get_subcommands().filter(|below| below.get_name() != "help").peekable();
        if below.peek().is_none() {
            found.push(path.trim_start().to_owned());
        }
        below.for_each(|below| leaves(below, &format!("{path} {}", below.get_name()), found));
    }

    #[test]
    fn every_command_has_examples_and_every_example_is_a_command_line() {
        let mut found = Vec::new();
        leaves(&command_line(), "", &mut found);
        for path in &found {
            assert!(EXAMPLES.iter().any(|(known, _)| known == path), "`{path}` has no example");
        }
        for (path, examples) in EXAMPLES {
            assert!(found.iter().any(|known| known == path), "there is no command `{path}`");
            for example in *examples {
                match command_line().try_get_matches_from(words(example)) {
                    Ok(_) => {}
                    Err(error) => assert!(!error.use_stderr(), "{example}\n{error}"),
                }
            }
        }
    }
}
