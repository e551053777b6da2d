package http1

// MaxEdits is how many lines edits can add to one head.
const MaxEdits = 16

// Edit is a change to the end-to-end fields of a head that goes on: a field is
// set, in the place of all lines of its name, or taken away. It is checked once
// and applied to many heads.
type Edit struct {
	name, value string
	known       Known
	away        bool
}

// NewEdit sets a field to value; "" takes it away. It is not ok for what this
// package writes itself: fields that frame a message, belong to a connection,
// say where a request came from, or have names that servers read in two ways.
func NewEdit(name, value string) (e Edit, ok bool) {
	k := lookup(name)
	if !isToken(name) || k != 0 && k < Authorization || k == AltSvc || isForwardingName(lowerText(name)) {
		return Edit{}, false
	}
	for i := range len(name) {
		if class[name[i]]&isOdd != 0 {
			return Edit{}, false
		}
	}
	return Edit{name, value, k, value == ""}, true
}

// With is the same edit with another value, which may be empty.
func (e Edit) With(value string) Edit {
	e.value, e.away = value, false
	return e
}

// Adds tells whether the edit adds a line.
func (e *Edit) Adds() bool { return !e.away }

func lowerText(name string) string {
	low := []byte(name)
	for i, c := range low {
		low[i] = lower(c)
	}
	return string(low)
}

// apply makes the change. What it adds is appended to h.buf, which must be the
// caller's own. It tells whether there was room for another line.
func (h *Head) apply(e *Edit) bool {
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if f.flags&flagHop == 0 && f.known == e.known && (e.known != 0 || sameFold(f.name.of(h.buf), e.name)) {
			f.flags |= flagHop | flagGone
		}
	}
	if e.known != 0 {
		h.first[e.known] = 0
		if e.known < lastControl {
			h.repeated &^= 1 << e.known
		}
	}
	return e.away || h.addLine(e.name, e.value, e.known, 0)
}

// addLine appends a line; it has no neighbours that could be copied with it.
func (h *Head) addLine(name, value string, k Known, flags uint8) bool {
	if int(h.n) == len(h.fields) {
		return false
	}
	f := &h.fields[h.n]
	h.n++
	at := uint32(len(h.buf))
	h.buf = append(h.buf, name...)
	f.name = span{at, uint32(len(h.buf))}
	h.buf = appendValue(h.buf, value)
	f.value = span{f.name.end, uint32(len(h.buf))}
	f.known, f.flags = k, flags|flagLoose
	if k != 0 && h.first[k] == 0 {
		h.first[k] = h.n
	}
	return true
}

// sameFold compares two tokens, ASCII letters without case.
func sameFold(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

// Edit applies all edits of the lists, the last list first. room is memory for
// the head as it then is; it must be left alone while the Response is used.
func (r *Response) Edit(room []byte, lists [][]Edit) {
	r.buf = append(room[:0], r.buf...)
	for i := len(lists) - 1; i >= 0; i-- {
		for j := range lists[i] {
			r.apply(&lists[i][j])
		}
	}
}

// original is what Undo goes back to.
type original struct {
	buf, path []byte
	n         uint8
	edited    bool
}

// BeginEdits lets Edit, Add and EditPath be called, until Undo. room is memory
// for the head as it then is; it must be left alone until Undo.
func (r *Request) BeginEdits(room []byte) {
	r.original = original{r.buf, r.path, r.n, true}
	r.buf = append(room[:0], r.buf...)
}

// Undo makes the request what it was before BeginEdits.
func (r *Request) Undo() {
	o := r.original
	if !o.edited {
		return
	}
	moved := false // a known field is found elsewhere now
	for i := range r.fields[:r.n] {
		f := &r.fields[i]
		if gone := f.flags&flagGone != 0; gone || i >= int(o.n) {
			f.flags &^= flagHop | flagGone
			moved = moved || f.known != 0
		}
	}
	r.buf, r.path, r.n, r.original = o.buf, o.path, o.n, original{}
	if !moved {
		return
	}
	clear(r.first[:])
	r.repeated = 0
	for i := range r.fields[:r.n] {
		r.note(r.fields[i].known, i+1)
	}
}

// Edit makes a change. It tells whether there was room for it; if not the
// request must be undone.
func (r *Request) Edit(e *Edit) bool { return r.apply(e) }

// Add adds a line about the request's way, behind those that a trusted client
// sent of the same name. It tells whether there was room.
func (r *Request) Add(name, value string, c *Client) bool {
	flags := uint8(0)
	if c.trusted {
		flags = flagForwarding // so that it stands behind them
	}
	return r.addLine(name, value, 0, flags)
}

// EditPath gives the request another path, which must be a normal one.
func (r *Request) EditPath(path string) {
	at := len(r.buf)
	r.buf = append(r.buf, path...)
	r.path = r.buf[at:len(r.buf):len(r.buf)]
}

// Passed is the first value of a field, by its name in any case, as far as it
// goes on as it came; nil: there is none.
func (r *Request) Passed(name string, o *Onward) []byte {
	skip := flagHop | flagAnew | flagAlias
	if !o.Client.trusted {
		skip |= flagForwarding
	}
	if !o.KeepOdd {
		skip |= flagOdd
	}
	for i := range r.fields[:r.n] {
		if f := &r.fields[i]; f.flags&skip == 0 && sameFold(f.name.of(r.buf), name) {
			return f.value.of(r.buf)
		}
	}
	return nil
}

// Proto is what X-Forwarded-Proto will say.
func (r *Request) Proto(c *Client) []byte {
	if !c.trusted {
		return c.proto(r.websocket)
	}
	s := r.said()
	s.settle(r.Host(), c, r.websocket)
	return s.proto
}
