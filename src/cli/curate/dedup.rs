//! `outskirt curate dedup`.

use std::path::Path;

use crate::cli::console::{Console, advance};
use crate::cli::counts::images;
use crate::cli::follow::follow;
use crate::cli::format::Format;
use crate::cli::output::print_batch;
use crate::cli::statements;
use crate::curate::{self, Alike, Copies, DedupOptions};
use crate::error::{Error, Result};
use crate::schema;
use crate::sql::session::Session;

/// Find images that are copies of others, and delete them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Copies are files of the same bytes and, with --by dhash, pictures whose difference hashes (64 bits) differ in at most --bits: what JPEG,
resizing and a little light leave. Hashes are computed once, into the column dhash. --by embedding finds what a network takes for the
same. Each copy is printed once, beside the image that stays and why; what stays is no copy itself. Pictures that show one shade are
compared by their bytes alone. Without --yes nothing is deleted.

Images marked keep ('outskirt curate keep') stay, and those marked ignore are left out.

Examples:
  outskirt curate dedup
  outskirt curate dedup --where \"dataset = 'scrape'\" --bits 6 --format csv > copies.csv
  outskirt curate dedup --where \"split = 'test'\" --against \"split = 'train'\"       leakage of training into test images
  outskirt curate dedup --where \"dataset = 'new'\" --bank shop --yes
  outskirt curate dedup --by embedding --backbone my_net --within 0.1")]
pub struct Args {
    /// SQL over images: which are compared; all where it is left out
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: Option<String>,
    /// What copies have in common
    #[arg(long, value_enum, default_value_t = By::Dhash)]
    by: By,
    /// Bits in which the hashes of copies may differ, 0 to 10 [default: 4]
    #[arg(long, value_name = "N")]
    bits: Option<u32>,
    /// How far the L2-normalised embeddings of copies may be apart, 0 to 2 [default: 0.1]
    #[arg(long, value_name = "D")]
    within: Option<f32>,
    /// The backbone of the embeddings; the bank's where there is --bank
    #[arg(long)]
    backbone: Option<String>,
    /// SQL over images: those that stay; the others are compared with them alone
    #[arg(long, value_name = "SQL", allow_hyphen_values = true, conflicts_with = "bank")]
    against: Option<String>,
    /// A bank, whose images stay; the others are compared with them alone
    #[arg(long)]
    bank: Option<String>,
    /// Which of two copies stays
    #[arg(long, value_enum, default_value_t = Stays::Largest)]
    stays: Stays,
    /// Delete the copies; banks follow
    #[arg(long)]
    yes: bool,
    /// Leave banks as they are: 'outskirt bank refresh' brings them up to date later
    #[arg(long, requires = "yes")]
    no_refresh: bool,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What copies have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// The bytes of their files
    Content,
    /// What the pictures look like, or the bytes
    Dhash,
    /// What a network sees, or the bytes
    Embedding,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Dhash => "dhash",
            Self::Embedding => "embedding",
        }
    }
}

/// Which of two copies stays.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Stays {
    /// The one of more pixels, else the one that came first
    Largest,
    /// The one that came first
    First,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    args.format.check(console.is_terminal())?;
    let store = console.open(db).await?;
    let session = Session::with_policy(&store, &console.policy()?).await?;
    let options = options(&args, &session)?;
    let bar = console.progress("comparing", 1);
    let found = curate::dedup(&session, &options, args.yes, |what, done, all| {
        bar.set_message(what);
        advance(&bar, done, all);
    });
    let found = found.await;
    bar.finish_and_clear();
    let (found, copies) = found?;
    statements::notices(&session, console)?;
    if !found.copies.is_empty() || args.format != Format::Table {
        print_batch(&copies, args.format, console)?;
    }
    told(&found, &options, console)?;
    if found.deleted && !args.no_refresh { follow(&store, console).await } else { Ok(()) }
}

fn options(args: &Args, session: &Session) -> Result<DedupOptions> {
    let bank = args.bank.as_deref().map(|name| session.banks().definition(name)).transpose()?;
    let against = bank.as_ref().map(|bank| format!("({}) AND \"{}\" IS NOT NULL", bank.predicate, bank.backbone));
    for (by, option, given) in [
        (By::Dhash, "--bits", args.bits.is_some()),
        (By::Embedding, "--within", args.within.is_some()),
        (By::Embedding, "--backbone", args.backbone.is_some()),
    ] {
        if given && by != args.by {
            return Err(Error::DedupOption { option, by: by.name() });
        }
    }
    let alike = match args.by {
        By::Content => Alike::Content,
        By::Dhash => Alike::Picture { bits: args.bits.unwrap_or(4) },
        By::Embedding => {
            let backbone = args.backbone.clone().or_else(|| bank.map(|bank| bank.backbone.clone()));
            let needs = Error::DedupNeedsBackbone;
            Alike::Embedding { backbone: backbone.ok_or(needs)?, within: args.within.unwrap_or(0.1) }
        }
    };
    let stays = match args.stays {
        Stays::Largest => curate::Stays::Largest,
        Stays::First => curate::Stays::First,
    };
    Ok(DedupOptions { alike, predicate: args.predicate.clone(), against: args.against.clone().or(against), stays })
}

/// What was found, in words, and what was not looked at.
fn told(found: &Copies, options: &DedupOptions, console: &mut Console<'_>) -> Result<()> {
    let plain = found.copies.iter().filter(|copy| copy.apart.is_none()).count();
    let (copies, all) = (images(found.copies.len() as u64), images(found.images as u64));
    let alike = found.copies.len() - plain;
    let are = if found.copies.len() == 1 { "is a copy" } else { "are copies" };
    let how = if plain > 0 && alike > 0 { format!(", {plain} of them byte for byte") } else { String::new() };
    let of = match (found.against, options.against.is_some()) {
        (_, false) => String::new(),
        (against, true) => format!(" of {} that stay", images(against as u64)),
    };
    console.notice(match (found.deleted, found.copies.is_empty()) {
        (true, _) => format!("deleted {copies} of {all}, which {are}{of}{how}"),
        (false, true) => format!("no copies{of} among {all}"),
        (false, false) => format!("{copies} of {all} {are}{of}{how}; --yes deletes them"),
    })?;
    if found.kept > 0 {
        let copies = if found.kept == 1 { "is a copy too, and stays" } else { "are copies too, and stay" };
        console.notice(format!("{} {copies}: marked keep", images(found.kept as u64)))?;
    }
    if found.ignored > 0 {
        console.notice(format!("{} left out: marked ignore", images(found.ignored as u64)))?;
    }
    let hashed = &found.hashed;
    if hashed.hashed > 0 {
        console.notice(format!("{} hashed, into the column {}", images(hashed.hashed as u64), schema::DHASH))?;
    }
    if hashed.refused > 0 {
        let first: Vec<String> = hashed
            .examples
            .iter()
            .map(|reject| format!("{}: {}", crate::image::shown(&reject.uri), reject.reason))
            .collect();
        let refused = images(hashed.refused as u64);
        console.notice(format!("{refused} could not be hashed, such as {}", first.join("; ")))?;
    }
    if found.without > 0 {
        let what = if matches!(options.alike, Alike::Embedding { .. }) { "embedding" } else { "hash" };
        console.notice(format!("{} compared by bytes alone: they have no {what}", images(found.without as u64)))?;
    }
    if found.blank > 0 {
        let blank = images(found.blank as u64);
        console
            .notice(format!("{blank} compared by bytes alone: the pictures show one shade, or next to nothing else"))?;
    }
    Ok(())
}
