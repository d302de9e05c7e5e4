//! Streams that may be compressed: their first bytes tell.

use std::io::{self, Cursor, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// First bytes of what is read, and of what is only named.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const OTHERS: [(&[u8], &str); 2] = [(b"BZh", "bzip2"), (&[0xfd, b'7', b'z', b'X'], "xz")];
/// So far back `zstd --ultra -22` refers.
const WINDOW: u64 = 128 << 20;

/// The stream as it was before it was compressed.
pub(super) fn plain<'a>(mut from: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = vec![];
    from.by_ref().take(4).read_to_end(&mut head)?;
    let other = OTHERS.iter().find(|(magic, _)| head.starts_with(magic));
    if let Some((_, name)) = other {
        return Err(io::Error::other(format!(
            "it is compressed with {name}, gzip and zstd are read: decompress it first"
        )));
    }
    let (gzip, zstd) = (head.starts_with(GZIP), head.starts_with(ZSTD));
    let whole = Cursor::new(head).chain(from);
    Ok(match () {
        () if gzip => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        () if zstd => Box::new(Frames::new(whole)),
        () => Box::new(whole),
    })
}

/// All frames of a zstd stream; those for other readers are skipped.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// Whether the decoder is at a frame.
    open: bool,
}

impl<R: Read> Frames<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW);
        Self { source, decoder, open: false }
    }

    /// Goes to the next frame; answers whether there is one.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            let mut head = vec![];
            self.source.by_ref().take(4).read_to_end(&mut head)?;
            if head.is_empty() {
                self.open = false;
                return Ok(false);
            }
            match self.decoder.init(Cursor::new(head).chain(&mut self.source)) {
                Ok(()) => {
                    self.open = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            while self.open && self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let some = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, some).map_err(io::Error::other)?;
            }
            let bytes = if self.open { self.decoder.read(buffer)? } else { 0 };
            if bytes > 0 || !self.next()? {
                return Ok(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = vec![];
        plain(bytes)?.read_to_end(&mut all)?;
        Ok(all)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn every_part_of_a_stream_is_read_however_it_is_compressed() {
        let (one, two) = (vec![b'a'; 300_000], b"the end".to_vec());
        let both = [one.clone(), two.clone()].concat();
        assert_eq!(read(&both).unwrap(), both);
        assert_eq!(read(&[gzip(&one), gzip(&two)].concat()).unwrap(), both);
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let frames = [&zstd(&one)[..], &skipped, &zstd(&two), &skipped];
        assert_eq!(read(&frames.concat()).unwrap(), both);
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_an_error() {
        let whole = zstd(&vec![7; 5000]);
        assert!(read(&whole[..whole.len() - 1]).is_err());
        let whole = gzip(&vec![7; 5000]);
        assert!(read(&whole[..whole.len() - 1]).is_err());
        let told = read(b"\xfd7zXZ....").unwrap_err();
        assert!(told.to_string().contains("xz"), "{told}");
    }
}
