//! `groupcache top`: nodes at work, in the terminal.

mod draw;
mod state;

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use hyper::Method;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use self::state::{Screen, Seen};
use crate::cli::{NodeArgs, TopArgs};
use crate::client::{Target, ask_json};
use crate::live::Live;
use crate::report::Exit;
use crate::signals::Signals;

/// Shows the nodes until somebody leaves.
///
/// # Errors
/// There is no terminal, or it cannot be used. That a node does not answer is shown, and is no reason to end.
pub(crate) async fn run(args: &TopArgs) -> Result<(), Exit> {
    let nodes = args.fleet.or(&args.node);
    for node in &nodes {
        Target::of(node)?;
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Exit::usage(
            "`top` needs a terminal: the same figures are at the node's /-/live, as JSON",
        ));
    }
    let unusable = |error: io::Error| Exit::other(format!("the terminal cannot be used: {error}"));
    let mut signals = Signals::listen().map_err(unusable)?;
    // From here on a panic restores the terminal, too.
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let shown = show(&mut terminal, nodes, args.every, &mut signals).await;
    ratatui::try_restore().and(shown).map_err(unusable)
}

async fn show(
    terminal: &mut DefaultTerminal,
    nodes: Vec<NodeArgs>,
    every: Duration,
    signals: &mut Signals,
) -> io::Result<()> {
    let mut screen = Screen::new(nodes.iter().map(|node| node.node.clone()));
    let mut seen = look(nodes, every);
    let mut events = events();
    loop {
        terminal.draw(|frame| draw::draw(frame, &screen))?;
        tokio::select! {
            Some((node, seen)) = seen.recv() => screen.take(node, seen),
            event = events.recv() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if !press(&mut screen, key) {
                        return Ok(());
                    }
                }
                // A new size is drawn for in the next turn.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            _ = signals.next() => return Ok(()),
        }
    }
}

/// Does what a key says. False to leave.
fn press(screen: &mut Screen, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('?' | 'h') => screen.help = !screen.help,
        // The first of these closes the help, as everywhere.
        KeyCode::Char('q') | KeyCode::Esc if screen.help => screen.help = false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Tab | KeyCode::Right => screen.turn(1),
        KeyCode::BackTab | KeyCode::Left => screen.turn(-1),
        KeyCode::Up => screen.scroll = screen.scroll.saturating_sub(1),
        KeyCode::Down => screen.scroll_down(),
        KeyCode::Char(' ') => screen.still = !screen.still,
        _ => {}
    }
    true
}

/// Asks every node over and over.
fn look(nodes: Vec<NodeArgs>, every: Duration) -> mpsc::Receiver<(usize, Seen)> {
    let (tell, seen) = mpsc::channel(16);
    for (at, node) in nodes.into_iter().enumerate() {
        let tell = tell.clone();
        tokio::spawn(async move {
            let mut turns = tokio::time::interval(every);
            turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                turns.tick().await;
                if tell.send((at, ask(&node).await)).await.is_err() {
                    return;
                }
            }
        });
    }
    seen
}

async fn ask(node: &NodeArgs) -> Seen {
    let page = ask_json(node, Method::GET, "/-/live").await.map_err(|exit| exit.message().to_owned())?;
    let live: Live = serde_json::from_value(page).map_err(|error| format!("no node's answer: {error}"))?;
    Ok(live)
}

/// Key presses and new sizes. The thread ends with the process: what it waits for cannot be given up.
fn events() -> mpsc::Receiver<io::Result<Event>> {
    let (tell, events) = mpsc::channel(16);
    thread::spawn(move || {
        loop {
            let event = match event::poll(Duration::from_millis(200)) {
                Ok(true) => event::read(),
                Ok(false) if tell.is_closed() => return,
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            let is_over = event.is_err();
            if tell.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    });
    events
}
