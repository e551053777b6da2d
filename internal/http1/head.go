package http1

import (
	"encoding/binary"
	"math/bits"
)

// MaxLines is the most field lines that a head or trailer section can have.
const MaxLines = 128

// span is a range of the buffer.
type span struct{ start, end uint32 }

func (s span) of(b []byte) []byte { return b[s.start:s.end:s.end] }

// field is one field line.
type field struct {
	name, value span
	known       Known
	flags       uint8
}

// What forwarding does with a field.
const (
	flagHop        uint8 = 1 << iota // belongs to this connection only
	flagAnew                         // written anew: Host, Content-Length, Expect
	flagForwarding                   // says who a request came from
	flagOdd                          // name with '_' or '.'
	flagAlias                        // odd, and reads as a forwarding or protected name
	flagLoose                        // the line is not exactly "name: value"
	flagGone                         // taken away by an edit; flagHop as well
)

// phases of parsing a head.
const (
	atStart uint8 = iota
	atMethod
	atTarget
	atVersion
	atStatus
	atReason
	atLine
	atName
	atSpace
	atValue
	atDone
)

// Head is what requests, answers and trailer sections have in common: field
// lines as ranges of the buffer they were parsed from.
type Head struct {
	buf      []byte
	pos      uint32 // next byte to look at
	mark     uint32 // first byte of the element being read
	name     span   // of the field being read
	phase    uint8
	bits     uint8 // class bits seen in the name being read
	n        uint8 // fields
	refused  Reason
	repeated uint32 // control fields seen more than once, by Known
	first    [NumKnown]uint8
	fields   [MaxLines + MaxEdits]field
}

func (h *Head) reset(phase uint8) {
	h.buf, h.pos, h.mark, h.phase, h.n, h.refused, h.repeated = nil, 0, 0, phase, 0, 0, 0
	clear(h.first[:])
}

// Len is the number of field lines.
func (h *Head) Len() int { return int(h.n) }

// Name is the name of line i as it was sent, a token.
func (h *Head) Name(i int) []byte { return h.fields[i].name.of(h.buf) }

// Value is the value of line i without whitespace around it.
func (h *Head) Value(i int) []byte { return h.fields[i].value.of(h.buf) }

// Known is what is known of the name of line i.
func (h *Head) Known(i int) Known { return h.fields[i].known }

// Hop tells whether line i belongs to the connection it came on: it must not be
// forwarded, over whatever protocol (RFC 9110, section 7.6.1). Names that
// Connection listed are among them, and so are Trailer and Transfer-Encoding.
func (h *Head) Hop(i int) bool { return h.fields[i].flags&flagHop != 0 }

// Get is the first value of a known field, nil where it is absent.
func (h *Head) Get(k Known) []byte {
	i := h.first[k]
	if i == 0 {
		return nil
	}
	return h.fields[i-1].value.of(h.buf)
}

// Has tells whether there is such a line.
func (h *Head) Has(k Known) bool { return h.first[k] != 0 }

// Lookup is the first value of a field by its name in lower case, nil where it
// is absent.
func (h *Head) Lookup(lowered string) []byte {
	for i := range h.fields[:h.n] {
		if f := &h.fields[i]; equalFold(f.name.of(h.buf), lowered) {
			return f.value.of(h.buf)
		}
	}
	return nil
}

// finish reads on in the field lines and gives the length of the head once it
// is all there. limit is what the head may have; b is not longer.
func (h *Head) finish(b []byte, limit, lines int) int {
	done := h.phase == atDone
	if h.refused == 0 && h.phase >= atLine && !done {
		done, h.refused = h.lines(b, lines)
	}
	if h.refused == 0 && !done && len(b) == limit {
		h.refused = HeadTooLarge
	}
	h.buf = b
	if h.refused != 0 || !done {
		return 0
	}
	h.buf = b[:h.pos:h.pos]
	return int(h.pos)
}

// lines reads field lines up to and with the empty line. It is called again
// with more bytes while it is neither done nor refuses.
func (h *Head) lines(b []byte, max int) (done bool, why Reason) {
	i := int(h.pos)
	for {
		switch h.phase {
		case atLine:
			i = h.wholeLines(b, i, max)
			if i == len(b) {
				h.pos = uint32(i)
				return false, 0
			}
			if class[b[i]]&inToken == 0 {
				return h.noName(b, i)
			}
			if int(h.n) == max {
				return false, TooManyLines
			}
			h.mark, h.bits, h.phase = uint32(i), 0, atName
			fallthrough
		case atName:
			seen := h.bits
			for i < len(b) {
				c := class[b[i]]
				if c&inToken == 0 {
					break
				}
				seen |= c
				i++
			}
			h.bits = seen
			if i == len(b) {
				h.pos = uint32(i)
				return false, 0
			}
			if b[i] != ':' {
				return false, afterName(b[i])
			}
			h.name = span{h.mark, uint32(i)}
			i++
			h.phase = atSpace
			fallthrough
		case atSpace:
			for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
				i++
			}
			h.mark = uint32(i)
			if i == len(b) {
				h.pos = uint32(i)
				return false, 0
			}
			h.phase = atValue
			fallthrough
		case atValue:
			i = endOfValue(b, i)
			if i+1 >= len(b) && (i == len(b) || b[i] == '\r') {
				h.pos = uint32(i)
				return false, 0
			}
			if b[i] != '\r' || b[i+1] != '\n' {
				return false, badEnd(b[i])
			}
			h.add(b, h.name, h.bits, int(h.mark), i)
			i += 2
			h.phase = atLine
		}
	}
}

// wholeLines takes in the lines at i that are there with their end and have
// nothing unusual about them; it is the short way of what lines does, and leaves
// every judgement to it.
func (h *Head) wholeLines(b []byte, i, max int) int {
	for int(h.n) < max {
		at, seen := i, uint8(0)
		for at < len(b) {
			c := class[b[at]]
			if c&inToken == 0 {
				break
			}
			seen |= c
			at++
		}
		if at == i || at+2 >= len(b) || b[at] != ':' || b[at+1] != ' ' || b[at+2] <= ' ' {
			return i
		}
		end := endOfValue(b, at+2)
		if end+1 >= len(b) || b[end] != '\r' || b[end+1] != '\n' {
			return i
		}
		h.add(b, span{uint32(i), uint32(at)}, seen, at+2, end)
		i = end + 2
	}
	return i
}

// noName judges a line that does not begin with a name.
func (h *Head) noName(b []byte, i int) (done bool, why Reason) {
	switch b[i] {
	case '\r':
		if i+1 == len(b) {
			h.pos = uint32(i)
			return false, 0
		}
		if b[i+1] != '\n' {
			return false, BareCR
		}
		h.pos, h.phase = uint32(i+2), atDone
		return true, 0
	case '\n':
		return false, BareLF
	case ' ', '\t':
		return false, Fold
	}
	return false, BadName
}

// afterName judges the byte that ends a name and is no colon.
func afterName(c byte) Reason {
	switch c {
	case ' ', '\t':
		return SpaceBeforeColon
	case '\r', '\n':
		return NoColon
	}
	return BadName
}

// badEnd judges the byte that ends a value, or stands before a byte that is no
// LF.
func badEnd(c byte) Reason {
	switch c {
	case '\r':
		return BareCR
	case '\n':
		return BareLF
	}
	return BadValue
}

// Eight bytes at a time.
const (
	ones = 0x0101010101010101
	high = 0x8080808080808080
)

// endOfTarget finds the first byte from i on that no request target has, len(b)
// where there is none.
func endOfTarget(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		del, hash := x^0x7f*ones, x^'#'*ones
		if (x-0x21*ones|x|(del-ones)|(hash-ones)&^hash)&high != 0 {
			break // the bits may be borrowed or mean a byte above: look closely
		}
	}
	for i < len(b) && class[b[i]]&inTarget != 0 {
		i++
	}
	return i
}

// endOfValue finds the first byte from i on that no value has, len(b) where
// there is none.
func endOfValue(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ 0x7f*ones
		// The lowest bit set marks a byte below 0x20 or DEL; bits above it may
		// be borrowed.
		if m := ((x-0x20*ones)&^x | (del-ones)&^del) & high; m != 0 {
			i += bits.TrailingZeros64(m) / 8
			if b[i] != '\t' {
				return i
			}
			i -= 7 // go on behind the tab
		}
	}
	for i < len(b) && class[b[i]]&inValue != 0 {
		i++
	}
	return i
}

// add takes in the field with the value b[start:end]; seen are the classes of
// the name's bytes.
func (h *Head) add(b []byte, at span, seen uint8, start, end int) {
	f := &h.fields[h.n]
	h.n++
	f.name, f.known, f.flags = at, 0, 0
	if start != int(at.end)+2 || b[start-1] != ' ' {
		f.flags = flagLoose
	}
	for end > start && (b[end-1] == ' ' || b[end-1] == '\t') {
		end--
		f.flags |= flagLoose
	}
	f.value = span{uint32(start), uint32(end)}
	name := at.of(b)
	if seen&isOdd != 0 {
		f.flags |= oddFlags(name)
		return
	}
	k := lookup(name)
	f.known = k
	if k == 0 {
		if len(name) >= len("x-forwarded") && name[0]|0x20 == 'x' && isForwardingName(name) {
			f.flags |= flagForwarding
		}
		return
	}
	h.note(k, int(h.n))
	if k < lastControl {
		f.flags |= knownFlags[k]
	}
}

// note remembers where the nth field, from 1, is found by what is known of it.
func (h *Head) note(k Known, nth int) {
	switch {
	case k == 0:
	case h.first[k] == 0:
		h.first[k] = uint8(nth)
	case k < lastControl:
		h.repeated |= 1 << k
	}
}

// oddFlags finds out what a name with '_' or '.' may be taken for.
func oddFlags(name []byte) uint8 {
	var room [longName]byte
	if len(name) > len(room) { // only x-forwarded-* is that long
		name = name[:len(room)]
	}
	alias := room[:len(name)]
	for i, c := range name {
		if c == '_' || c == '.' {
			c = '-'
		}
		alias[i] = lower(c)
	}
	if isForwardingName(alias) || isProtectedName(alias) {
		return flagOdd | flagAlias
	}
	return flagOdd
}

// several tells whether a control field has more than one line.
func (h *Head) several(k Known) bool { return h.repeated&(1<<k) != 0 }
