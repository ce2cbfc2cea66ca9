//! The screen.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph, Row, Sparkline, Table};

use super::state::{Node, Screen};
use crate::live::{Live, Peer, harmless, micros, size, time, whole};

const QUIET: Style = Style::new().fg(Color::DarkGray);
const ACCENT: Style = Style::new().fg(Color::Cyan);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let members = screen.node().latest().map_or(1, |live| live.ring.members.len()) as u16;
    let middle = Constraint::Length(members.clamp(6, 12) + 3);
    let [head, figures, middle, lists, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(5),
        middle,
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let node = screen.node();
    draw_head(frame, head, screen);
    if let Some(live) = node.latest() {
        draw_figures(frame, figures, node, live);
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(62), Constraint::Min(20)]).areas(middle);
        draw_members(frame, left, live, screen.scroll);
        draw_levels(frame, right, node);
        let [hot, flights, errors] =
            Layout::horizontal([Constraint::Percentage(30), Constraint::Percentage(34), Constraint::Min(20)])
                .areas(lists);
        draw_hot_keys(frame, hot, live, screen.scroll);
        draw_flights(frame, flights, live, screen.scroll);
        draw_errors(frame, errors, live, screen.scroll);
    }
    draw_foot(frame, foot, screen);
    if screen.help {
        draw_help(frame);
    }
}

fn panel(title: impl Into<Line<'static>>, note: String) -> Block<'static> {
    let mut block = Block::bordered().border_type(BorderType::Rounded).border_style(QUIET).title(title);
    if !note.is_empty() {
        block = block.title_top(Line::from(format!(" {note} ")).style(QUIET).alignment(Alignment::Right));
    }
    block
}

fn titled(title: &'static str) -> Line<'static> {
    Line::from(format!(" {title} ")).bold()
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let node = screen.node();
    let mut spans = vec![Span::from(" groupcache top ").reversed(), Span::from(" ")];
    match node.latest() {
        Some(live) => {
            spans.push(Span::from(harmless(&live.node)).bold());
            spans.push(Span::from(format!(
                "  {} for {}",
                live.status,
                time(live.uptime_ms - live.uptime_ms % 1000)
            )));
            if area.width >= 110 {
                let ring = format!("  {} {}", live.ring.placement, live.ring.fingerprint);
                spans.push(Span::from(ring).style(QUIET));
            }
        }
        None => spans.push(Span::from(node.url.clone()).bold()),
    }
    frame.render_widget(Line::from(spans), area);
    let mut right = Vec::new();
    if screen.still {
        right.push(Span::from(" still ").reversed());
    }
    if screen.nodes.len() > 1 {
        right.push(Span::from(format!(" node {} of {} ", screen.at + 1, screen.nodes.len())));
    }
    frame.render_widget(Line::from(right).alignment(Alignment::Right), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let line = match &screen.node().trouble {
        Some(trouble) => Line::from(format!(" ! {}: {trouble}", screen.node().url)).style(BAD),
        None => {
            Line::from(" q leave   ? help   tab next node   up/down scroll   space hold still").style(QUIET)
        }
    };
    frame.render_widget(line, area);
}

fn draw_figures(frame: &mut Frame<'_>, area: Rect, node: &Node, live: &Live) {
    let [gets, hits, loads, budget] = Layout::horizontal([Constraint::Ratio(1, 4); 4]).areas(area);
    let gets_rates = node.rates(|live| live.count("gets"));
    let loads_rates = node.rates(|live| live.count("loads"));
    draw_trend(frame, gets, ("gets", whole(live.count("gets"))), &rate(&gets_rates), &gets_rates, None);
    let (recent_hits, recent_gets) = (node.lately(Live::hits), node.lately(|live| live.count("gets")));
    let ratio = if recent_gets > 0 {
        format!("{:.1} %", recent_hits as f64 * 100.0 / recent_gets as f64)
    } else {
        "-".to_owned()
    };
    draw_trend(frame, hits, ("hit ratio", "1 min".to_owned()), &ratio, &node.ratios(), Some(1.0));
    draw_trend(frame, loads, ("loads", whole(live.count("loads"))), &rate(&loads_rates), &loads_rates, None);
    draw_budget(frame, budget, live);
}

fn rate(rates: &[f64]) -> String {
    match rates.last() {
        Some(rate) if *rate < 9.95 => format!("{rate:.1}/s"),
        Some(rate) => format!("{}/s", whole(rate.round() as u64)),
        None => "-".to_owned(),
    }
}

fn draw_trend(
    frame: &mut Frame<'_>,
    area: Rect,
    (title, note): (&'static str, String),
    figure: &str,
    values: &[f64],
    top: Option<f64>,
) {
    let block = panel(titled(title), note);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [number, trend] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(inside);
    frame.render_widget(Line::from(figure.to_owned()).bold(), number);
    let kept = values.len().saturating_sub(trend.width.into());
    // A sparkline is of whole numbers: thousandths, so that one load in ten seconds is seen.
    let scaled: Vec<u64> = values[kept..].iter().map(|value| (value * 1e3) as u64).collect();
    let mut sparkline = Sparkline::default().data(&scaled).style(ACCENT);
    if let Some(top) = top {
        sparkline = sparkline.max((top * 1e3) as u64);
    }
    frame.render_widget(sparkline, trend);
}

fn draw_budget(frame: &mut Frame<'_>, area: Rect, live: &Live) {
    let used: u64 = live.shares.iter().map(|share| share.bytes).sum();
    let budget: u64 = live.shares.iter().map(|share| share.budget).sum::<u64>().max(1);
    let block = panel(titled("budget"), size(budget));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let part = used as f64 / budget as f64;
    let mut lines = vec![
        Line::from(format!("{:.1} %  {}", part * 100.0, size(used))).bold(),
        Line::from(bar(part, inside.width.into())).style(ACCENT),
    ];
    let of_share =
        live.shares.iter().map(|share| format!("{} {}", harmless(&share.share), size(share.bytes)));
    lines.push(Line::from(of_share.collect::<Vec<_>>().join("  ")).style(QUIET));
    frame.render_widget(Paragraph::new(lines), inside);
}

/// A bar of `width` columns, filled in part.
fn bar(part: f64, width: usize) -> String {
    let filled = ((part.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    "█".repeat(filled) + &"░".repeat(width - filled)
}

fn draw_members(frame: &mut Frame<'_>, area: Rect, live: &Live, scroll: usize) {
    let mut members: Vec<_> = live.ring.members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    // The share in figures goes before its picture, where there is no place for both.
    let bars = if area.width >= 64 { 8 } else { 0 };
    let rows =
        members.into_iter().skip(scroll.min(live.ring.members.len().saturating_sub(1))).map(|member| {
            let peer = live.peers.iter().find(|peer| peer.name == member.name);
            let (state, style) = state(member.me, peer);
            let latency = peer.and_then(|peer| peer.latency);
            let took = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), micros);
            Row::new([
                Line::from(harmless(&member.name)),
                Line::from(format!("{:.1}%", member.share * 100.0)).alignment(Alignment::Right),
                Line::from(bar(member.share, bars.into())).style(ACCENT),
                Line::from(state).style(style),
                Line::from(took(latency.map(|it| it.median_us))).alignment(Alignment::Right),
                Line::from(took(latency.map(|it| it.p99_us))).alignment(Alignment::Right),
            ])
        });
    let widths = [Constraint::Fill(1)].into_iter().chain([6, bars, 9, 6, 6].map(Constraint::Length));
    let header = ["member", " share", "", "state", "median", "   p99"];
    let members = match live.ring.members.len() {
        1 => "1 member".to_owned(),
        many => format!("{many} members"),
    };
    let block = panel(titled("ring"), members);
    frame.render_widget(Table::new(rows, widths).header(Row::new(header).style(QUIET)).block(block), area);
}

fn state(me: bool, peer: Option<&Peer>) -> (String, Style) {
    match peer {
        _ if me => ("this node".to_owned(), QUIET),
        Some(peer) if peer.is_down() => ("! down".to_owned(), BAD),
        Some(Peer { state, .. }) if matches!(state.as_str(), "up" | "idle") => {
            (state.clone(), Style::new().fg(Color::Green))
        }
        Some(peer) => (format!("! {}", harmless(&peer.state)), BAD),
        None => ("! unknown".to_owned(), BAD),
    }
}

fn draw_levels(frame: &mut Frame<'_>, area: Rect, node: &Node) {
    let block = panel(titled("answers"), "1 min".to_owned());
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let gets = node.lately(|live| live.count("gets")).max(1);
    let width = usize::from(inside.width).saturating_sub(18);
    let levels = [
        ("own keys", "main_hits"),
        ("hot copies", "hot_hits"),
        ("not found", "negative_hits"),
        ("stale", "stale_hits"),
        ("joined", "loads_deduplicated"),
        ("missed", "misses"),
    ];
    let line = |(label, name): (&str, &str)| {
        let part = node.lately(|live| live.count(name)) as f64 / gets as f64;
        let label = Span::from(format!("{label:<10} {:>5.1}% ", part * 100.0));
        Line::from(vec![label, Span::from(bar(part, width)).style(ACCENT)])
    };
    frame.render_widget(Paragraph::new(levels.map(line).to_vec()), inside);
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, block: Block<'static>, lines: Vec<Line<'_>>, scroll: usize) {
    let from = scroll.min(lines.len().saturating_sub(1));
    frame.render_widget(Paragraph::new(lines.into_iter().skip(from).collect::<Vec<_>>()).block(block), area);
}

fn none(text: &'static str) -> Vec<Line<'static>> {
    vec![Line::from(text).style(QUIET)]
}

fn draw_hot_keys(frame: &mut Frame<'_>, area: Rect, live: &Live, scroll: usize) {
    let note = live.hot_keys.as_ref().filter(|hot| hot.one_in > 1).map(|hot| format!("1 in {}", hot.one_in));
    let lines = match &live.hot_keys {
        None => none("not counted: --hot-keys"),
        Some(hot) if hot.keys.is_empty() => none("no look-ups lately"),
        Some(hot) => {
            let seconds = hot.window_ms.max(1_000) as f64 / 1e3;
            let line = |key: &crate::live::HotKey| {
                let rate = rate(&[key.count as f64 / seconds]);
                let name = format!("{rate:>8} {}/{}", harmless(&key.group), harmless(&key.key));
                Line::from(name)
            };
            hot.keys.iter().map(line).collect()
        }
    };
    draw_list(frame, area, panel(titled("hottest"), note.unwrap_or_default()), lines, scroll);
}

fn draw_flights(frame: &mut Frame<'_>, area: Rect, live: &Live, scroll: usize) {
    let line = |flight: &crate::live::Flight| {
        let asked = flight.peer.as_deref().map_or_else(|| "origin".to_owned(), harmless);
        let fenced = if flight.fenced { " removed" } else { "" };
        let head = format!("{:>6} x{:<3} ", time(flight.age_ms - flight.age_ms % 100), flight.waiters);
        let key = format!("{}/{}", harmless(&flight.group), harmless(&flight.key));
        Line::from(vec![
            Span::from(head),
            Span::from(key),
            Span::from(format!(" <- {asked}{fenced}")).style(QUIET),
        ])
    };
    let lines = match &*live.flights {
        [] => none("none: nobody waits"),
        flights => flights.iter().map(line).collect(),
    };
    let note = match live.count("flights") {
        0 => String::new(),
        flights => whole(flights),
    };
    draw_list(frame, area, panel(titled("in progress"), note), lines, scroll);
}

fn draw_errors(frame: &mut Frame<'_>, area: Rect, live: &Live, scroll: usize) {
    let lines = match &*live.errors {
        [] => none("none that are remembered"),
        errors => errors
            .iter()
            .flat_map(|error| {
                let ago = live.at_ms.saturating_sub(error.at_ms);
                let times = if error.times > 1 { format!(" x{}", whole(error.times)) } else { String::new() };
                let of = match (&error.peer, &error.group, &error.key) {
                    (Some(peer), ..) => harmless(peer),
                    (None, Some(group), Some(key)) => format!("{}/{}", harmless(group), harmless(key)),
                    _ => "here".to_owned(),
                };
                let head = Span::from(format!("{}{times}", error.kind.replace('_', " "))).style(BAD);
                let when = Span::from(format!(" {} ago ", time(ago - ago % 1000))).style(QUIET);
                [
                    Line::from(vec![head, when, Span::from(of)]),
                    Line::from(format!("  {}", harmless(&error.text))).style(QUIET),
                ]
            })
            .collect(),
    };
    draw_list(frame, area, panel(titled("last errors"), String::new()), lines, scroll);
}

const HELP: &str = "\x20q, esc, ctrl-c     leave
 tab, right         the next node
 shift-tab, left    the node before
 up, down           scroll the lists
 space              hold still
 ?                  this

 gets      look-ups by callers and by peers
 hit ratio of those, answered at once
 loads     asked of this node's origin
 median, p99  of a peer's answers in the
           last minute, its own loads included
 state     down: the breaker is open, its keys
           are asked of a successor";

fn draw_help(frame: &mut Frame<'_>) {
    let whole = frame.area();
    let (width, height) = (50.min(whole.width), 17.min(whole.height));
    let area = Rect::new((whole.width - width) / 2, (whole.height - height) / 2, width, height);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP).block(panel(titled("help"), String::new())), area);
}
