package h2

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2"
)

const (
	frameHeaderLen = 9
	maxFrame       = 16 << 10 // the largest frame we take, and the largest we send (RFC 9113, section 4.2)
	maxWindow      = 1<<31 - 1
	preface        = http2.ClientPreface
)

// frame is a frame's header.
type frame struct {
	length int
	kind   http2.FrameType
	flags  http2.Flags
	id     uint32
}

func (f frame) has(flag http2.Flags) bool { return f.flags&flag != 0 }

// appendFrame appends a frame's header; length bytes of payload must follow.
func appendFrame(b []byte, length int, kind http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// setFrameLength corrects the length of the frame whose header begins b.
func setFrameLength(b []byte, length int) {
	b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
}

func appendReset(b []byte, id uint32, code http2.ErrCode) []byte {
	b = appendFrame(b, 4, http2.FrameRSTStream, 0, id)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendGoAway(b []byte, last uint32, code http2.ErrCode) []byte {
	b = appendFrame(b, 8, http2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendWindowUpdate(b []byte, id, n uint32) []byte {
	b = appendFrame(b, 4, http2.FrameWindowUpdate, 0, id)
	return binary.BigEndian.AppendUint32(b, n)
}

func appendPing(b []byte, flags http2.Flags, data []byte) []byte {
	b = appendFrame(b, 8, http2.FramePing, flags, 0)
	return append(b, data...)
}

func appendSettings(b []byte, settings ...http2.Setting) []byte {
	b = appendFrame(b, 6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}

// unpad gives a frame's payload without its padding.
func unpad(f frame, payload []byte) ([]byte, bool) {
	if !f.has(http2.FlagDataPadded) {
		return payload, true
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, false
	}
	return payload[1 : len(payload)-int(payload[0])], true
}

const (
	smallBuffer = 256
	largeBuffer = 32 << 10
)

type largeArray = [largeBuffer]byte

// reader reads frames. One that waits for a request holds its small buffer
// only; the large one comes from a pool.
type reader struct {
	conn  net.Conn
	pool  *sync.Pool // of *largeArray
	buf   []byte     // small or large
	r, w  int        // what of buf is read and not yet used
	large *largeArray
	full  bool // the last read filled the buffer: there is more
	small [smallBuffer]byte
}

// push puts what somebody else read before us.
func (r *reader) push(read []byte) error {
	if len(read) > largeBuffer {
		return errors.New("too much was read before")
	}
	r.buf = r.small[:]
	r.reserve(len(read))
	r.w += copy(r.buf[r.w:], read)
	return nil
}

// header gives the next frame's header if it is buffered.
func (r *reader) header() (frame, bool) {
	b := r.buf[r.r:r.w]
	if len(b) < frameHeaderLen {
		return frame{}, false
	}
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   http2.FrameType(b[3]),
		flags:  http2.Flags(b[4]),
		id:     binary.BigEndian.Uint32(b[5:]) & maxWindow,
	}, true
}

// whole tells whether the next frame is buffered wholly.
func (r *reader) whole() bool {
	f, ok := r.header()
	return ok && r.w-r.r >= frameHeaderLen+f.length
}

// take uses up n buffered bytes, which stay valid until the next fill.
func (r *reader) take(n int) []byte {
	b := r.buf[r.r : r.r+n]
	r.r += n
	return b
}

// fill reads until n bytes are buffered.
func (r *reader) fill(n int) error {
	for empty := 0; r.w-r.r < n; {
		r.reserve(n)
		m, err := r.conn.Read(r.buf[r.w:])
		r.w += m
		r.full = r.w == len(r.buf)
		switch {
		case r.w-r.r >= n:
			return nil
		case err == io.EOF && r.w > r.r:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case m > 0:
			empty = 0
		default:
			if empty++; empty == 100 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

// reserve makes room for n bytes from r.r on, n at most largeBuffer.
func (r *reader) reserve(n int) {
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
	if r.large == nil && (n > smallBuffer || r.full) {
		r.large, _ = r.pool.Get().(*largeArray)
		if r.large == nil {
			r.large = new(largeArray)
		}
		r.w = copy(r.large[:], r.buf[r.r:r.w])
		r.r, r.buf = 0, r.large[:]
	}
	if len(r.buf)-r.r < n || r.w == len(r.buf) {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
}

// shrink gives the large buffer back where nothing is in it.
func (r *reader) shrink() {
	if r.large == nil || r.r != r.w {
		return
	}
	r.pool.Put(r.large)
	r.large, r.buf, r.r, r.w, r.full = nil, r.small[:], 0, 0, false
}
