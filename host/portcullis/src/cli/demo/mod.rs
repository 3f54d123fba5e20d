//! `portcullis demo`: three filters compiled, an application in two versions, the proxy in front of them; then the
//! configuration is changed, and broken, while traffic runs. Everything that is shown was measured in this very run.

mod config;
mod http;
mod modules;
mod reviews;
mod scenes;
mod story;
mod traffic;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use portcullis_build::Built;
use serde_json::json;

use super::{Exit, Outcome};
use crate::app::{App, Settings};
use crate::diagnose::{Code, Problem};
use crate::term::Term;

use config::Config;
use scenes::Stage;
use story::Story;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Put the configuration here and leave it, to go on with `portcullis run -c DIR`
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

/// Tells the story; fine only if no request failed and everything came out as it had to.
pub fn run(args: &Args, term: &Term) -> Outcome {
    match play(args, term) {
        Ok(outcome) => outcome,
        Err(problems) => Outcome { exit: Exit::Failed, problems, ..Outcome::default() },
    }
}

fn play(args: &Args, term: &Term) -> Result<Outcome, Vec<Problem>> {
    let here = |error: std::io::Error| {
        vec![Problem::new(Code::P0901, "the demo cannot go on").because(error.to_string())]
    };
    let temporary = tempfile::Builder::new().prefix("portcullis-demo-").tempdir().map_err(here)?;
    let folder = args.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&folder).map_err(here)?;
    let built = modules::compile(&folder, term)?;
    let v1 = reviews::serve("v1").map_err(here)?;
    let v2 = reviews::serve("v2").map_err(here)?;
    let config = Config::write(&folder, v1, v2).map_err(here)?;
    let app = App::start(Settings { paths: vec![folder], ..Settings::default() })?;
    let addresses = app.addresses();
    let (_, proxy) = addresses
        .first()
        .ok_or_else(|| vec![Problem::new(Code::P0901, "the demo's proxy has no listener")])?;
    let mut story = Story::new(term);
    introduce(&story, &config, &built, &[v1, v2], *proxy);
    let mut stage = Stage { story: &mut story, app: &app, config: &config, proxy: *proxy };
    let tally = stage.play().map_err(here)?;
    app.drain();
    Ok(conclude(&story, tally.sent(), tally.failed()))
}

fn introduce(
    story: &Story<'_>,
    config: &Config,
    built: &[Built],
    reviews: &[SocketAddr],
    proxy: SocketAddr,
) {
    let module = |(name, built): (&&str, &Built)| {
        format!("{name} {} KiB in {:.1} s", built.size.div_ceil(1024), built.elapsed.as_secs_f64())
    };
    let modules: Vec<String> = modules::FILTERS.iter().zip(built).map(module).collect();
    let reviews: Vec<String> = reviews
        .iter()
        .enumerate()
        .map(|(at, address)| format!("v{} on {address}", at + 1))
        .collect();
    story.tell(&format!("filters        {}", modules.join(", ")));
    story.tell(&format!("application    reviews {}", reviews.join(", ")));
    story.tell(&format!("configuration  {}", config.folder().display()));
    story.tell(&format!("proxy          http://{proxy}"));
}

fn conclude(story: &Story<'_>, sent: u64, failed: u64) -> Outcome {
    let disappointments = story.disappointments();
    let exit = if failed == 0 && disappointments == 0 { Exit::Fine } else { Exit::Failed };
    let text = format!("\nrequests sent: {sent}, failed: {failed}");
    let data = json!({
        "schema": "portcullis.demo/1",
        "sent": sent,
        "failed": failed,
        "unmet_expectations": disappointments,
    });
    let next = (exit == Exit::Fine).then(|| {
        "portcullis run -c examples/quickstart, with your own service behind it".to_owned()
    });
    Outcome { exit, text, data: Some(data), next, ..Outcome::default() }
}
