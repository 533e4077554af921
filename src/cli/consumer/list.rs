//! `liminal consumer list`.

use super::{CliError, Global, OutputFormat, print_json, print_line, thousands};
use crate::{
    cli::remote::{connect, on_the_wire, table},
    model::ConsumerJson,
    proto::v1::Consumer,
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The channel
    pub channel: String,
}

/// Runs the command.
pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let consumers: Vec<Consumer> = on_the_wire(connect(global).await?.list_consumers(&args.channel).await?);
    match global.output {
        OutputFormat::Json => consumers.iter().try_for_each(|consumer| print_json(&ConsumerJson::of(consumer))),
        OutputFormat::Raw => consumers.iter().try_for_each(|consumer| print_line(&consumer.name)),
        OutputFormat::Table => {
            let header = ["NAME", "ORDER", "NEXT", "LAG", "IN FLIGHT", "WAITING", "DYING", "REDELIVERED", "DEAD"];
            let rows = consumers.iter().map(|consumer| {
                let shown = ConsumerJson::of(consumer);
                let (name, order) = (shown.name.to_owned(), shown.order.to_owned());
                let (pending, past) = ([shown.in_flight, shown.waiting, shown.dying], [shown.redelivered, shown.dead]);
                let figures = [shown.next_seq, shown.lag].into_iter().chain(pending).chain(past);
                [name, order].into_iter().chain(figures.map(thousands)).collect()
            });
            print_line(&table(&header, &[2, 3, 4, 5, 6, 7, 8], rows.collect()))
        }
    }
}
