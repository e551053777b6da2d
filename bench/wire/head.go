package wire

import (
	"bytes"
	"strconv"
)

// Head is what both ends need of a message head. It trusts what it reads: the
// proxy between is what is measured, not what is tested.
type Head struct {
	Start   []byte // the request or status line
	Length  int64  // Content-Length; -1: none
	Chunked bool
	Close   bool
	Upgrade bool
	Key     []byte // Sec-WebSocket-Key
}

// ParseHead reads the head at the start of b; size 0: it is not complete. The
// slices point into b.
func ParseHead(b []byte) (h Head, size int) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return h, 0
	}
	h.Length = -1
	rest := b[:end]
	h.Start, rest, _ = bytes.Cut(rest, []byte("\r\n"))
	for len(rest) > 0 {
		var line []byte
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, rest = rest[:i-1], rest[i+1:]
		} else {
			line, rest = rest, nil
		}
		h.field(line)
	}
	return h, end + 4
}

// field notes the few fields that matter; most lines end at their length.
func (h *Head) field(line []byte) {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return
	}
	value := func() []byte { return bytes.TrimSpace(line[colon+1:]) }
	is := func(name string) bool { return bytes.EqualFold(line[:colon], []byte(name)) }
	switch {
	case colon == 14 && is("Content-Length"):
		n, err := strconv.ParseInt(string(value()), 10, 64)
		if err == nil {
			h.Length = n
		}
	case colon == 17 && is("Transfer-Encoding"):
		h.Chunked = true
	case colon == 10 && is("Connection"):
		h.Close = bytes.EqualFold(value(), []byte("close"))
	case colon == 7 && is("Upgrade"):
		h.Upgrade = true
	case colon == 17 && is("Sec-WebSocket-Key"):
		h.Key = value()
	}
}

// Status of a status line; 0: it is none.
func (h Head) Status() int {
	if len(h.Start) < 12 {
		return 0
	}
	n, err := strconv.Atoi(string(h.Start[9:12]))
	if err != nil {
		return 0
	}
	return n
}
