//! The numbers that decisions obey: one webhook's keys of the configuration, as the core needs
//! them. Names and defaults are the configuration's.

use std::fmt;
use std::time::Duration;

use super::outcome::{Outcome, Phase};

/// One webhook's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether the webhook sends at all (D24).
    pub active: bool,
    /// Which of the waiting order types goes next (D2).
    pub sequence: Sequence,
    /// Orders in a payload, at most; 1 to 10,000 (D1).
    pub payload_max_items: usize,
    /// Bytes of a payload's uncompressed body, at most; a single larger order travels alone (D1).
    pub payload_max_bytes: usize,
    /// Between the end of a request and the start of the next (D4).
    pub payload_interval: Duration,
    /// How long an order may wait for its payload to fill (D5).
    pub payload_linger: Duration,
    /// How often a failed payload is sent again (D9).
    pub retry_attempts: RetryAttempts,
    /// How long after a failed attempt (D9).
    pub retry_gap: Duration,
    /// What is the endpoint's fault from the first (D13).
    pub hold_on: Vec<HoldOn>,
    /// How long without a success until the webhook is deactivated (D13).
    pub deactivate_after: Option<Duration>,
    /// What an unanswered request means (D7).
    pub on_timeout: OnTimeout,
    /// Which answers mean success (D7).
    pub success_status: SuccessStatus,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            active: true,
            sequence: Sequence::PoFirst,
            payload_max_items: 100,
            payload_max_bytes: 1024 * 1024,
            payload_interval: Duration::ZERO,
            payload_linger: Duration::ZERO,
            retry_attempts: RetryAttempts::Times(3),
            retry_gap: Duration::from_mins(15),
            hold_on: Vec::new(),
            deactivate_after: None,
            on_timeout: OnTimeout::Retry,
            success_status: SuccessStatus::default(),
        }
    }
}

/// Which of the waiting order types goes next (D2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// `po_first`: purchase orders, then the type whose oldest waiting order entered first.
    PoFirst,
    /// `rotate`: the type whose last payload lies longest ago.
    Rotate,
    /// `fifo`: strictly as they entered.
    Fifo,
}

/// How often a failed payload is sent again (D9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAttempts {
    /// At most so many times.
    Times(u32),
    /// Until it is delivered.
    Unlimited,
}

impl RetryAttempts {
    /// Whether a payload whose counted attempts are so many goes again.
    pub const fn allow_after(self, counted: u32) -> bool {
        match self {
            Self::Times(times) => counted <= times,
            Self::Unlimited => true,
        }
    }
}

/// What an unanswered request means (D7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    /// `retry`: a failed attempt.
    Retry,
    /// `delivered`: a success, if it was sent in full and then not answered in time.
    Delivered,
}

/// A set of HTTP statuses: `2xx` and its like, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPattern {
    /// All statuses with this hundreds digit, 1 to 5.
    Class(u16),
    /// Just this one.
    Exactly(u16),
}

impl StatusPattern {
    /// Whether the status is in the set.
    pub const fn matches(self, status: u16) -> bool {
        match self {
            Self::Class(hundreds) => status / 100 == hundreds,
            Self::Exactly(wanted) => status == wanted,
        }
    }
}

impl fmt::Display for StatusPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(hundreds) => write!(f, "{hundreds}xx"),
            Self::Exactly(status) => write!(f, "{status}"),
        }
    }
}

/// Which answers mean success (D7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuccessStatus {
    /// One of these.
    Of(Vec<StatusPattern>),
    /// Any answer at all (`"any"`).
    Any,
}

impl Default for SuccessStatus {
    fn default() -> Self {
        Self::Of(vec![StatusPattern::Class(2)])
    }
}

impl SuccessStatus {
    /// Whether the status means success.
    pub fn contains(&self, status: u16) -> bool {
        match self {
            Self::Of(patterns) => patterns.iter().any(|pattern| pattern.matches(status)),
            Self::Any => true,
        }
    }
}

/// What is the endpoint's fault from the first (D13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldOn {
    /// `dns`: its name was not found.
    Dns,
    /// `connect`: no connection.
    Connect,
    /// `tls`: no trust, or no common version.
    Tls,
    /// `timeout`: no answer in time, however far the attempt came.
    Timeout,
    /// A status.
    Status(StatusPattern),
}

impl HoldOn {
    /// Whether the outcome is what is meant.
    pub fn matches(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Dns, Outcome::Broken { phase }) => *phase == Phase::Dns,
            (Self::Connect, Outcome::Broken { phase }) => *phase == Phase::Connect,
            (Self::Tls, Outcome::Broken { phase }) => *phase == Phase::Tls,
            (Self::Timeout, Outcome::TimedOut { .. }) => true,
            (Self::Status(pattern), Outcome::Answered { status, .. }) => pattern.matches(*status),
            (Self::Dns | Self::Connect | Self::Tls | Self::Timeout | Self::Status(_), _) => false,
        }
    }
}
