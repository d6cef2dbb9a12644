//! The page: one file that asks nothing of any network.
//!
//! What users wrote (uris, labels, SQL) is text and never markup: maud escapes it. The style sheet and the script are allowed by
//! their hashes, and pictures where they stand in the page; the policy allows nothing else. Each small picture stands there once, as
//! a symbol, however often it is shown. Without the script everything is there too, unsorted and unfiltered.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::charts::{self, Chart};
use super::explain::Explained;
use super::facts::{Embeddings, Group, Neighbor, Picture, Report, Thumbnail, Verdict};
use super::words::{count, images, percent, pvalue};

const STYLE: &str = include_str!("page.css");
/// Characters of a value of a column of the user's.
const VALUE: usize = 80;
const SCRIPT: &str = include_str!("page.js");

/// What the sections of pictures are, in words.
const KINDS: [(&str, &str, &str); 3] = [
    ("furthest", "Furthest outside", "The largest scores above the threshold."),
    ("borderline", "At the threshold", "The scores nearest to it, on both sides: is it where you would draw the line?"),
    (
        "representative",
        "What else lies outside",
        "Of what is not shown above: chosen so that all of it is like one of them, the most frequent kind first.",
    ),
];

/// The page of a report: HTML in UTF-8.
pub fn page(report: &Report) -> String {
    let body = html! {
        a class="skip" href="#pictures" { "Skip to the pictures" }
        (symbols(report.thumbnails.iter().map(|(id, picture)| (*id, picture))))
        header { (head(report)) (contents(report)) }
        main {
            (verdicts(&report.verdicts))
            (warnings(&report.warnings))
            (scores(report))
            (sets(report))
            (held_out(report))
            (groups("datasets", "Datasets", &report.datasets, report.datasets.len()))
            (groups("labels", "Labels", &report.labels, report.labels_in_all))
            (periods(report))
            (copies(report))
            (pictures(report))
        }
        (foot(report.bank.k))
    };
    whole(&report.title, &body)
}

/// The page of one image.
pub fn explained_page(explained: &Explained) -> String {
    // ids begin at 1: the image itself is 0 here, in the bank it may stand under its id too
    let picture = |(id, picture)| (Option::unwrap_or(id, 0), picture);
    let thumbnails: BTreeMap<u64, &Thumbnail> =
        explained.thumbnails.iter().map(|(id, thumbnail)| picture((*id, thumbnail))).collect();
    let body = html! {
        (symbols(thumbnails.iter().map(|(id, picture)| (*id, *picture))))
        header {
            h1 { (explained.uri) }
            p class="lead" { (decided(explained)) }
        }
        main {
            section class="one" aria-label="The image" {
                (thumb(&thumbnails, 0, "huge", &format!("The image, score {}", score(explained.score)), explained.without_picture.as_deref()))
                dl class="facts" {
                    @if let Some(id) = explained.id { div { dt { "id" } dd { (id) } } }
                    @else { div { dt { "id" } dd { "not in the database, embedded now" } } }
                    @for (name, value) in [("dataset", &explained.dataset), ("split", &explained.split), ("label", &explained.label)] {
                        @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
                    }
                    @for (name, value) in &explained.metadata { div { dt { (name) } dd { (value) } } }
                    div { dt { "score" } dd { (score(explained.score)) ", the distance to neighbour " (explained.bank.k) } }
                    @if let Some(decision) = &explained.decision {
                        div { dt { "threshold" } dd { (score(decision.threshold)) ", below which " (percent(decision.tpr)) " % of ID lies" } }
                        div { dt { "percentile" } dd { "above " (percent(decision.percentile)) " % of " (count(decision.images)) " calibration images" } }
                        div { dt { "p-value" } dd { (format!("{:.4}", decision.pvalue)) } }
                    }
                    div { dt { "bank" } dd { (explained.bank.name) ", version " (explained.bank.version) ", " (count(explained.bank.rows)) " of " (explained.bank.backbone) } }
                }
            }
            section aria-labelledby="h-near" {
                h2 id="h-near" { "Nearest images of the bank" }
                ul class="cards" {
                    @for neighbor in &explained.neighbors {
                        li {
                            (thumb(&thumbnails, neighbor.id, "large", &about(neighbor), None))
                            p class="score" { strong { (score(neighbor.distance)) } }
                            @if let Some(label) = &neighbor.label { p { b { (label) } } }
                            p class="uri" { (neighbor.uri.as_deref().unwrap_or("deleted since")) }
                        }
                    }
                }
            }
        }
        (foot(explained.bank.k))
    };
    whole(&explained.uri, &body)
}

/// What a score means, in a sentence.
fn decided(explained: &Explained) -> String {
    let name = &explained.bank.name;
    let own = match (explained.is_in_bank, explained.file_has_changed) {
        (true, false) => " Its own entry in the bank is left out.",
        (true, true) => " Its own entry in the bank is left out. Its file has changed since it was embedded.",
        (false, true) => " Its file has changed since it was embedded.",
        (false, false) => "",
    };
    match &explained.decision {
        Some(decision) if decision.is_ood => format!("It lies outside {name}.{own}"),
        Some(_) => format!("It lies within {name}.{own}"),
        None => format!("Bank {name} is not calibrated, so its score has no threshold.{own}"),
    }
}

/// A page around what stands in it.
fn whole(title: &str, body: &Markup) -> String {
    let policy = format!(
        "default-src 'none'; img-src data:; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "outskirt " (env!("CARGO_PKG_VERSION")) };
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Every small picture, once.
fn symbols<'t>(thumbnails: impl Iterator<Item = (u64, &'t Thumbnail)>) -> Markup {
    html! {
        svg class="symbols" width="0" height="0" aria-hidden="true" focusable="false" {
            @for (id, Thumbnail { jpeg, width, height }) in thumbnails {
                symbol id={ "t" (id) } viewBox={ "0 0 " (width) " " (height) } {
                    image width=(width) height=(height) href={ "data:image/jpeg;base64," (STANDARD.encode(jpeg)) } {}
                }
            }
        }
    }
}

fn head(report: &Report) -> Markup {
    let bank = &report.bank;
    html! {
        h1 { (report.title) }
        p class="lead" {
            strong { (count(report.ood)) " of " (images(report.images)) } " lie outside "
            strong { (bank.name) } " at the threshold " (score(report.threshold)) "."
        }
        dl class="facts" {
            div { dt { "bank" } dd { (bank.name) ", version " (bank.version) } }
            div { dt { "its images" } dd { (count(bank.rows)) " where " code { (bank.predicate) } } }
            div { dt { "backbone" } dd { (bank.backbone) ", " (bank.dimension) " numbers" } }
            div { dt { "score" } dd { "distance to neighbour " (bank.k) } }
            div { dt { "threshold" } dd { (percent(report.asked.tpr)) " % of ID images lie below it; calibrated with "
                (count(report.calibration.images)) " where " code { (bank.calibrated_with.as_deref().unwrap_or_default()) } } }
            div { dt { "measured" } dd { (count(report.images)) " images where " code { (report.asked.predicate) } } }
            div { dt { "made" } dd { time datetime=(report.made_at) { (report.made_at) } " by outskirt " (report.outskirt) } }
        }
    }
}

/// Where what is, by the headings of what there is.
fn contents(report: &Report) -> Markup {
    let all = [
        ("verdicts", "what this says", true),
        ("warnings", "warnings", !report.warnings.is_empty()),
        ("scores", "scores", true),
        ("sets", "OOD sets", !report.sets.is_empty()),
        ("held-out", "calibration", report.held_out.is_some()),
        ("datasets", "datasets", !report.datasets.is_empty()),
        ("labels", "labels", !report.labels.is_empty()),
        ("periods", "over time", report.periods.len() > 1),
        ("copies", "copies", has_copies(report)),
        ("pictures", "pictures", true),
    ];
    html! {
        nav aria-label="Contents" {
            ul { @for (id, name, _) in all.iter().filter(|(_, _, is_there)| *is_there) { li { a href={ "#h-" (id) } { (name) } } } }
        }
    }
}

fn verdicts(verdicts: &[Verdict]) -> Markup {
    html! {
        section aria-labelledby="h-verdicts" {
            h2 id="h-verdicts" { "What this says" }
            ul class="verdicts" {
                @for verdict in verdicts {
                    li class=(verdict.tone) {
                        p { span class="tone" { (tone(verdict.tone)) } (verdict.text) }
                        details { summary { "SQL" } pre tabindex="0" { code { (verdict.sql) } } }
                    }
                }
            }
        }
    }
}

fn tone(tone: &str) -> &'static str {
    match tone {
        "good" => "good: ",
        "bad" => "look: ",
        _ => "",
    }
}

fn warnings(warnings: &[String]) -> Markup {
    html! {
        @if !warnings.is_empty() {
            section aria-labelledby="h-warnings" {
                h2 id="h-warnings" { "What may make these numbers wrong" }
                ul class="verdicts" { @for warning in warnings { li class="bad" { p { (warning) } } } }
            }
        }
    }
}

fn figure(chart: &Chart, caption: &str) -> Markup {
    html! {
        figure {
            div class="chart" role="img" aria-label=(chart.alt) { (PreEscaped(&chart.svg)) }
            figcaption { (caption) }
        }
    }
}

fn scores(report: &Report) -> Markup {
    let left_out = charts::left_out(report);
    html! {
        section aria-labelledby="h-scores" {
            h2 id="h-scores" { "Scores" }
            @if left_out > 0 {
                p class="note" { "The largest datasets are drawn; " (left_out) " more are in the table of datasets." }
            }
            div class="charts" {
                (figure(&charts::histogram(report), "Where the scores of each dataset lie, beside those of the calibration."))
                (figure(&charts::distribution(report), "How much of each dataset lies up to a score."))
            }
        }
    }
}

fn sets(report: &Report) -> Markup {
    html! {
        @if !report.sets.is_empty() {
            section aria-labelledby="h-sets" {
                h2 id="h-sets" { "How well OOD sets are told apart" }
                p class="note" { "ID images: " code { (report.id) } ". Percent; in brackets the 95 % interval." }
                div class="scroll" tabindex="0" role="group" aria-label="OOD sets" {
                    table class="sortable" {
                        thead { tr {
                            (th("OOD set", false)) (th("images", true)) (th("FPR95", true)) (th("AUROC", true)) (th("AUIN", true)) (th("AUOUT", true))
                        } }
                        tbody {
                            @for set in &report.sets {
                                tr {
                                    th scope="row" { (set.name) }
                                    (number(set.images as f64, &count(set.images)))
                                    (number(set.fpr95, &between(set.fpr95, set.fpr95_interval)))
                                    (number(set.auroc, &between(set.auroc, set.auroc_interval)))
                                    (number(set.aupr_in, &percent(set.aupr_in)))
                                    (number(set.aupr_out, &percent(set.aupr_out)))
                                }
                            }
                        }
                    }
                }
                div class="charts" { (figure(&charts::roc(&report.sets), "ROC curves; the number is the AUROC in percent.")) }
            }
        }
    }
}

fn between(share: f64, (lower, upper): (f64, f64)) -> String {
    format!("{} ({}–{})", percent(share), percent(lower), percent(upper))
}

fn held_out(report: &Report) -> Markup {
    html! {
        @if let Some(held_out) = &report.held_out {
            section aria-labelledby="h-held-out" {
                h2 id="h-held-out" { "Does the calibration hold?" }
                p class="note" {
                    "P-values of " (count(held_out.images)) " ID images that it has not seen, where " code { (held_out.predicate) }
                    ". They are spread evenly where it holds."
                }
                div class="charts" {
                    (figure(&charts::pvalues(held_out), "P-values in 20 bins of equal width."))
                    div class="scroll" tabindex="0" role="group" aria-label="Levels of p-values" {
                        table {
                            thead { tr { (th("p-value up to", true)) (th("% of the images", true)) (th("by chance within", true)) } }
                            tbody {
                                @for level in &held_out.levels {
                                    tr {
                                        (number(level.level, &format!("{}", level.level)))
                                        (number(level.share, &percent(level.share)))
                                        (number(level.within, &format!("{} ± {}", percent(level.level), percent(level.within))))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn groups(id: &str, title: &str, groups: &[Group], all: usize) -> Markup {
    let heading = format!("h-{id}");
    let labelled = groups.iter().any(|group| group.label.is_some());
    let compared: Vec<(&Group, &Embeddings)> =
        groups.iter().filter_map(|group| Some((group, group.embeddings.as_ref()?))).collect();
    html! {
        @if !groups.is_empty() {
            section aria-labelledby=(heading) {
                h2 id=(heading) { (title) }
                @if all > groups.len() {
                    p class="note" { "Showing " (count(groups.len())) " of " (count(all)) ", those with most images outside." }
                }
                div class="scroll" tabindex="0" role="group" aria-label=(title) {
                    table class="sortable" {
                        thead { tr {
                            (th("dataset", false))
                            @if labelled { (th("label", false)) }
                            (th("images", true)) (th("outside", true)) (th("% outside (95 %)", true)) (th("median", true))
                            (th("largest", true)) (th("AUROC (95 %)", true))
                        } }
                        tbody {
                            @for group in groups {
                                tr {
                                    th scope="row" { (group.dataset) }
                                    @if labelled { td { (group.label.as_deref().unwrap_or("none")) } }
                                    (number(group.images as f64, &count(group.images)))
                                    (number(group.ood as f64, &count(group.ood)))
                                    (number(group.ood as f64 / group.images as f64,
                                        &between(group.ood as f64 / group.images as f64, group.share_interval)))
                                    (number(f64::from(group.median), &score(group.median)))
                                    (number(f64::from(group.largest), &score(group.largest)))
                                    (number(group.auroc, &between(group.auroc, group.auroc_interval)))
                                }
                            }
                        }
                    }
                }
                p class="note" { "In brackets the 95 % interval. AUROC is how often a score of the group is larger than one of the calibration: 50 % where they do not differ." }
                @if !compared.is_empty() { (embeddings(&compared, groups.len())) }
            }
        }
    }
}

/// Datasets whose embeddings were compared with the calibration's.
fn embeddings(compared: &[(&Group, &Embeddings)], all: usize) -> Markup {
    html! {
        h3 { "Are their embeddings others than the calibration's?" }
        div class="scroll" tabindex="0" role="group" aria-label="Embeddings of datasets" {
            table class="sortable" {
                thead { tr {
                    (th("dataset", false)) (th("AUROC of a classifier (95 %)", true)) (th("its p-value", true))
                    (th("between them, % of the variance", true)) (th("p-value (MMD)", true)) (th("SQL", false))
                } }
                tbody {
                    @for (group, told) in compared {
                        tr {
                            th scope="row" { (group.dataset) }
                            (number(told.auroc, &between(told.auroc, told.auroc_interval)))
                            (number(told.pvalue, &pvalue(told.pvalue)))
                            (number(told.mmd_effect, &percent(told.mmd_effect)))
                            (number(told.mmd_pvalue, &pvalue(told.mmd_pvalue)))
                            td { details { summary { "SQL" } pre tabindex="0" { code { (told.sql) } } } }
                        }
                    }
                }
            }
        }
        p class="note" {
            "Scores tell what moved away from the bank, these what changed at all: another camera, another mix of classes. A linear classifier that "
            "cannot tell the two sides apart has an AUROC of 50 %. Samples of at most 2,000 images, for MMD 1,000, of each side."
            @if compared.len() < all { " The largest datasets are compared." }
        }
    }
}

fn periods(report: &Report) -> Markup {
    html! {
        @if report.periods.len() > 1 {
            section aria-labelledby="h-periods" {
                h2 id="h-periods" { "Over time" }
                div class="charts" {
                    (figure(&charts::periods(&report.periods, report.period),
                        &format!("How much of what came in each {} lies outside.", report.period)))
                    div class="scroll" tabindex="0" role="group" aria-label="Shares outside over time" {
                        table class="sortable" {
                            thead { tr { (th(report.period, false)) (th("images", true)) (th("% outside", true)) (th("median score", true)) } }
                            tbody {
                                @for period in &report.periods {
                                    tr {
                                        th scope="row" { (period.begins.replace('T', " ").trim_end_matches(":00Z")) }
                                        (number(period.images as f64, &count(period.images)))
                                        (number(period.ood as f64 / period.images as f64, &percent(period.ood as f64 / period.images as f64)))
                                        (number(f64::from(period.median), &score(period.median)))
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn has_copies(report: &Report) -> bool {
    let copies = &report.copies;
    let near = copies.near.as_ref().map_or(0, |near| near.of_bank + near.among_themselves);
    copies.of_bank + copies.among_themselves + near > 0
}

fn copies(report: &Report) -> Markup {
    let copies = &report.copies;
    let near = copies.near.as_ref();
    html! {
        @if has_copies(report) {
            section aria-labelledby="h-copies" {
                h2 id="h-copies" { "Copies" }
                p { "Files of the same bytes: " (images(copies.of_bank)) " in the bank as well, and among those measured "
                    (images(copies.among_themselves)) " that came after another." }
                (pairs("in the bank", &copies.examples, copies.of_bank))
                (pairs("came before", &copies.examples_among, copies.among_themselves))
                @match near {
                    Some(near) => {
                        p { "Pictures that look alike, their difference hashes within " (near.bits) " of 64 bits: " (images(near.of_bank))
                            " like one of the bank, and among those measured " (images(near.among_themselves)) " like another."
                            @if near.without > 0 { " Of " (images(near.without)) " there is no hash." } }
                        (pairs("like it in the bank", &near.examples, near.of_bank))
                        (pairs("like it", &near.examples_among, near.among_themselves))
                    }
                    None => p class="note" { "Pictures that look alike are not looked for: 'outskirt curate dedup' computes the hashes that tell." }
                }
            }
        }
    }
}

/// The first of some pairs of uris.
fn pairs(heading: &str, examples: &[(String, String)], all: usize) -> Markup {
    html! {
        @if !examples.is_empty() {
            p class="note" { "Showing " (examples.len()) " of " (count(all)) "." }
            div class="scroll" tabindex="0" role="group" aria-label={ "Copies " (heading) } {
                table {
                    thead { tr { (th("image", false)) (th(heading, false)) } }
                    tbody { @for (one, other) in examples { tr { td { (one) } td { (other) } } } }
                }
            }
        }
    }
}

fn pictures(report: &Report) -> Markup {
    let datasets: BTreeSet<&str> = report.pictures.iter().map(|picture| picture.dataset.as_str()).collect();
    let labels: BTreeSet<&str> = report.pictures.iter().filter_map(|picture| picture.label.as_deref()).collect();
    html! {
        section id="pictures" aria-labelledby="h-pictures" {
            h2 id="h-pictures" { "The pictures" }
            form class="filters" id="filters" hidden {
                (choice("f-dataset", "dataset", &datasets))
                @if !labels.is_empty() { (choice("f-label", "label", &labels)) }
                label { "score from " input id="f-from" type="number" step="any" inputmode="decimal"; }
                label { "to " input id="f-to" type="number" step="any" inputmode="decimal"; }
                button type="reset" { "all" }
                output id="shown" {}
            }
            @for (kind, title, about) in KINDS {
                @let some: Vec<&Picture> = report.pictures.iter().filter(|picture| picture.shown_as == kind).collect();
                @if !some.is_empty() {
                    h3 { (title) }
                    p class="note" {
                        (about) " Showing " (count(some.len())) " of " (count(if kind == "borderline" { report.images } else { report.ood.max(some.len()) })) "."
                    }
                    ul class="cards" { @for picture in some { (card(report, picture)) } }
                }
            }
        }
    }
}

fn choice(id: &str, name: &str, values: &BTreeSet<&str>) -> Markup {
    html! {
        label { (name) " "
            select id=(id) {
                option value="" { "all" }
                @for value in values { option value={ "=" (value) } { (value) } }
            }
        }
    }
}

fn card(report: &Report, picture: &Picture) -> Markup {
    let outside = picture.score > report.threshold;
    html! {
        li class=[outside.then_some("outside")] tabindex="0" data-dataset={ "=" (picture.dataset) }
            data-label={ "=" (picture.label.as_deref().unwrap_or_default()) } data-score=(picture.score) {
            (thumb(&report.thumbnails, picture.id, "large", &describe(picture), picture.without_picture.as_deref()))
            p class="score" { strong { (score(picture.score)) } @if outside { " outside" } @else { " inside" } }
            p { "above " (percent(picture.percentile)) " % of ID, p " (format!("{:.4}", picture.pvalue)) }
            @if let Some(others) = picture.stands_for { p { "stands for about " (count(others)) } }
            p { (picture.dataset) @if let Some(split) = &picture.split { " / " (split) } @if let Some(label) = &picture.label { ": " b { (label) } } }
            p class="uri" { (picture.uri) }
            @if !picture.metadata.is_empty() {
                dl { @for (name, value) in &picture.metadata { div { dt { (name) } dd { (cut(value)) } } } }
            }
            @if !picture.neighbors.is_empty() {
                p class="near" { "nearest in the bank" }
                ol class="neighbors" {
                    @for neighbor in &picture.neighbors {
                        li {
                            (thumb(&report.thumbnails, neighbor.id, "small", &about(neighbor), None))
                            span { (score(neighbor.distance)) }
                            @if let Some(label) = &neighbor.label { span { (label) } }
                        }
                    }
                }
            }
        }
    }
}

/// A small picture, or what stands in its place.
fn thumb<T>(thumbnails: &BTreeMap<u64, T>, id: u64, size: &str, alt: &str, without: Option<&str>) -> Markup {
    html! {
        @if thumbnails.contains_key(&id) {
            svg class={ "thumb " (size) } role="img" aria-label=(alt) { use href={ "#t" (id) } {} }
        } @else {
            div class={ "thumb none " (size) } role="img" aria-label=(alt) {
                @if size != "small" { "no picture" @if let Some(reason) = without { ": " (reason) } } @else { "–" }
            }
        }
    }
}

fn describe(picture: &Picture) -> String {
    let label = picture.label.as_ref().map(|label| format!(", {label}")).unwrap_or_default();
    format!("Image {} of {}{label}, score {}", picture.id, picture.dataset, score(picture.score))
}

fn about(neighbor: &Neighbor) -> String {
    match (&neighbor.uri, &neighbor.label) {
        (None, _) => format!("Image {} of the bank, deleted since", neighbor.id),
        (Some(_), Some(label)) => format!("Image {} of the bank, {label}", neighbor.id),
        (Some(uri), None) => format!("Image {} of the bank, {uri}", neighbor.id),
    }
}

fn foot(k: usize) -> Markup {
    html! {
        footer {
            p {
                "The score is the Euclidean distance, between L2-normalised embeddings, to the " (ordinal(k))
                " nearest image of the bank (Sun, Ming, Zhu, Li: Out-of-distribution Detection with Deep Nearest Neighbors, ICML 2022). "
                "P-values are conformal (Bates et al., Annals of Statistics 2023); intervals are Wilson's and DeLong's."
            }
        }
    }
}

/// As much of a text as a card has room for.
fn cut(text: &str) -> String {
    let cut: String = text.chars().take(VALUE).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}

/// What a k is called: 1st, 2nd, 3rd, 4th.
fn ordinal(k: usize) -> String {
    let ending = match (k % 100, k % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{k}{ending}")
}

/// A heading, by which the script sorts.
fn th(name: &str, is_number: bool) -> Markup {
    html! { th scope="col" class=[is_number.then_some("number")] { (name) } }
}

fn number(value: f64, shown: &str) -> Markup {
    html! { td class="number" data-value=(value) { (shown) } }
}

fn score(score: f32) -> String {
    format!("{score:.4}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_k_has_its_ending_and_a_long_value_its_end() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21, 50, 112].map(ordinal).join(" "),
            "1st 2nd 3rd 4th 11th 12th 21st 50th 112th"
        );
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(200)), "ä".repeat(VALUE) + "…");
    }
}
