//! The synchronous netlink transport: many requests in one `sendmsg`, the kernel's own words on errors,
//! dumps that are whole or fail.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// Requests per `sendmsg`: the answers to so many failures still fit the default receive buffer.
const CHUNK: usize = 128;
/// Bytes per datagram that the kernel may answer with (`NLMSG_GOODSIZE` is at most 8 KiB; dumps grow to
/// 32 KiB when the reader offers that much).
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How often an interrupted dump is read again before it is an error.
const DUMP_ATTEMPTS: usize = 10;
/// The kernel answers while it handles the request; longer than this means it will not answer.
const DEADLINE_SECONDS: i64 = 5;
const HEADER: usize = 16;
const EXTACK_MSG: u16 = 1;
/// include/uapi/asm-generic/socket.h; the same number on every architecture but parisc and sparc.
const SO_NETNS_COOKIE: i32 = 71;

/// One request, ready to be framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request of type `kind` (`RTM_...`) with `flags` beyond `NLM_F_REQUEST`.
    pub fn new(kind: u16, flags: u16, message: &impl Emitable) -> Self {
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        Self { kind, flags, body }
    }
}

/// The kernel's "no" to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: i32,
    /// The extended acknowledgement's text, where there is one.
    pub detail: Option<String>,
}

/// One answer: the bodies of messages the kernel sent for the request (empty for most), or its refusal.
pub type Answer = Result<Vec<Vec<u8>>, Refusal>;

/// A netlink socket. It belongs to the network namespace it was opened in, whoever uses it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of a datagram (`struct nlmsghdr`, include/uapi/linux/netlink.h).
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    sequence: u32,
    pub(crate) body: &'a [u8],
}

impl Netlink {
    /// Opens a routing socket in the current thread's namespace, with extended acknowledgements and
    /// strict checking of dump filters.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> io::Result<Self> {
        Self::open_protocol(netlink_sys::protocols::NETLINK_ROUTE)
    }

    /// Opens a netfilter socket in the current thread's namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open_netfilter() -> io::Result<Self> {
        Self::open_protocol(netlink_sys::protocols::NETLINK_NETFILTER)
    }

    /// The number of the network namespace it was opened in (`SO_NETNS_COOKIE`, socket(7), Linux 5.14):
    /// never given to another one before the next boot.
    ///
    /// # Errors
    /// The kernel does not know such numbers.
    pub fn namespace_cookie(&self) -> io::Result<u64> {
        let mut cookie = 0u64;
        let mut length = nix::libc::socklen_t::try_from(size_of::<u64>()).unwrap_or_default();
        // SAFETY: `cookie` has the eight bytes that `length` says, and both live across the call.
        #[expect(unsafe_code, reason = "nix knows no such option")]
        let result = unsafe {
            nix::libc::getsockopt(
                self.as_raw_fd(),
                nix::libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                std::ptr::from_mut(&mut cookie).cast(),
                &raw mut length,
            )
        };
        if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
    }

    fn open_protocol(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(DEADLINE_SECONDS))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::new() })
    }

    /// Sends `requests` in as few datagrams as fit and answers each. Requests after a refused one are
    /// still carried out: a batch is not a transaction.
    ///
    /// # Errors
    /// The conversation itself failed; what was applied is unknown.
    pub fn batch(&mut self, requests: &[Request]) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(requests.len());
        for chunk in requests.chunks(CHUNK) {
            let last = chunk.len() - 1;
            answers.extend(self.chunk(chunk, last, |index, _| index == last)?);
        }
        Ok(answers)
    }

    /// Sends `requests` as one nf_tables transaction, framed by `begin` and `end`: all are carried out or
    /// none (nfnetlink_rcv_batch, net/netfilter/nfnetlink.c).
    ///
    /// # Errors
    /// The conversation itself failed.
    pub fn transaction(
        &mut self,
        begin: Request,
        requests: Vec<Request>,
        end: Request,
    ) -> io::Result<Vec<Answer>> {
        let count = requests.len();
        let framed: Vec<Request> = [begin].into_iter().chain(requests).chain([end]).collect();
        // What is refused as a whole is refused at its beginning, and nothing after it is answered.
        let ends = |index, refused| index == count || (index == 0 && refused);
        let mut answers = self.chunk(&framed, count, ends)?.into_iter();
        let whole = answers.next().unwrap_or(Ok(Vec::new()));
        Ok(answers.take(count).map(|answer| whole.clone().and(answer)).collect())
    }

    /// Sends one request.
    ///
    /// # Errors
    /// The conversation itself failed.
    pub fn request(&mut self, request: Request) -> io::Result<Answer> {
        let answers = self.batch(&[request])?;
        answers.into_iter().next().ok_or_else(|| io::Error::other("netlink: no answer"))
    }

    /// Only the request at `last` asks for an acknowledgement: requests are handled in order, refusals are
    /// always answered, so silence before that acknowledgement means done. `ends` says after which answer
    /// (and whether it was a refusal) no further one comes.
    fn chunk(
        &mut self,
        requests: &[Request],
        last: usize,
        ends: impl Fn(usize, bool) -> bool,
    ) -> io::Result<Vec<Answer>> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(requests.len() * 128);
        for (i, request) in requests.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let ack = if i == last { NLM_F_ACK } else { 0 };
            frame(&mut datagram, request, NLM_F_REQUEST | ack | request.flags, self.sequence)?;
        }
        self.socket.send(&datagram, 0)?;
        let mut answers: Vec<Answer> = vec![Ok(Vec::new()); requests.len()];
        let mut open = true;
        while open {
            self.receive(|f| {
                let index = f.sequence.wrapping_sub(first) as usize;
                let Some(answer) = answers.get_mut(index) else { return };
                match f.kind {
                    NLMSG_ERROR => {
                        if let Some(refusal) = refusal(f) {
                            *answer = Err(refusal);
                        }
                        open &= !ends(index, answer.is_err());
                    }
                    _ => {
                        if let Ok(bodies) = answer {
                            bodies.push(f.body.to_vec());
                        }
                    }
                }
            })?;
        }
        Ok(answers)
    }

    /// Reads a whole table, again from the start if it changed meanwhile (`NLM_F_DUMP_INTR`), and hands
    /// each message's body to `read`. What `read` returns is collected; `None` is left out.
    ///
    /// # Errors
    /// The kernel refused, kept changing the table, or sent what cannot be decoded.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(all) = self.dump_once(request, &mut read)? {
                return Ok(all);
            }
        }
        Err(io::Error::from_raw_os_error(nix::libc::EINTR))
    }

    fn dump_once<T>(
        &mut self,
        request: &Request,
        read: &mut impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> io::Result<Option<Vec<T>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut datagram = Vec::new();
        frame(&mut datagram, request, NLM_F_REQUEST | NLM_F_DUMP | request.flags, sequence)?;
        self.socket.send(&datagram, 0)?;
        let (mut all, mut whole, mut open) = (Vec::new(), true, true);
        let mut failure = None;
        while open {
            self.receive(|f| {
                if f.sequence != sequence {
                    return;
                }
                whole &= f.flags & NLM_F_DUMP_INTR == 0;
                match f.kind {
                    NLMSG_DONE => open = false,
                    NLMSG_ERROR => {
                        open = false;
                        failure = refusal(f).map(|r| io::Error::from_raw_os_error(r.errno));
                    }
                    _ => match read(f.body) {
                        Ok(Some(item)) => all.push(item),
                        Ok(None) => {}
                        Err(e) => failure = Some(io::Error::other(format!("netlink: {e}"))),
                    },
                }
            })?;
        }
        match failure {
            Some(e) => Err(e),
            None => Ok(whole.then_some(all)),
        }
    }

    /// Receives one datagram and hands each message in it to `each`.
    fn receive(&mut self, mut each: impl FnMut(&Frame<'_>)) -> io::Result<()> {
        self.buffer.clear();
        self.buffer.reserve(RECEIVE_BUFFER);
        let bytes = loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(n) => break n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "netlink: no answer in time"));
                }
                Err(e) => return Err(e),
            }
        };
        let mut rest = self.buffer.get(..bytes).unwrap_or_default();
        while let Some((message, after)) = split(rest) {
            each(&message);
            rest = after;
        }
        Ok(())
    }
}

/// Appends one framed message (`struct nlmsghdr`, include/uapi/linux/netlink.h).
fn frame(out: &mut Vec<u8>, request: &Request, flags: u16, sequence: u32) -> io::Result<()> {
    let length = u32::try_from(HEADER + request.body.len())
        .map_err(|_| io::Error::other("netlink: request too long"))?;
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&request.kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(&request.body);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

/// The first message of `data`, and what follows it; `None` where no whole one is left.
pub(crate) fn split(data: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let word = |at: usize| data.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let half = |at: usize| data.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    let length = word(0)? as usize;
    let body = data.get(HEADER..length)?;
    let frame = Frame { kind: half(4)?, flags: half(6)?, sequence: word(8)?, body };
    Some((frame, data.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The refusal in an `NLMSG_ERROR`; `None` for a plain acknowledgement. With `NETLINK_CAP_ACK` the
/// attributes follow the error number and the header of the request.
fn refusal(f: &Frame<'_>) -> Option<Refusal> {
    let code = i32::from_ne_bytes(f.body.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let detail = (f.flags & NLM_F_ACK_TLVS != 0)
        .then(|| f.body.get(4 + HEADER..))
        .flatten()
        .and_then(|tlvs| NlasIterator::new(tlvs).flatten().find(|nla| nla.kind() == EXTACK_MSG))
        .map(|nla| String::from_utf8_lossy(nla.value()).trim_end_matches('\0').to_owned());
    Some(Refusal { errno: code.saturating_neg(), detail })
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}
