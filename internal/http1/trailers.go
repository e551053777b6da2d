package http1

// MaxTrailers bounds a trailer section, in bytes.
const MaxTrailers = 8 << 10

// Trailers is the trailer section of a chunked body. Reset makes a zero one
// ready.
type Trailers struct{ Head }

// Reset makes the Trailers ready for the next section and lets go of the buffer.
func (t *Trailers) Reset() { t.Head.reset(atLine) }

// Parse has the contract of Request.Parse; buf begins with the section's first
// byte. It is called while Body.InTrailers; after n > 0 comes Body.EndTrailers.
// Fields that frame or route a message are refused (RFC 9110, section 6.5.1).
func (t *Trailers) Parse(buf []byte) (n int, why Reason) {
	n = t.finish(buf[:min(len(buf), MaxTrailers)], MaxTrailers, MaxLines)
	if t.refused == HeadTooLarge {
		t.refused = TrailersTooLarge
	}
	if n > 0 {
		for i := range t.fields[:t.n] {
			if t.fields[i].flags&(flagHop|flagAnew|flagAlias) != 0 {
				t.refused = BadTrailer
			}
		}
	}
	if t.refused != 0 {
		return 0, t.refused
	}
	return n, 0
}

// Forwarded tells whether trailer i may go on: what says who asks, what the
// content is or where it goes must stand in the head, and is dropped here.
func (t *Trailers) Forwarded(i int) bool {
	f := &t.fields[i]
	return f.flags&(flagForwarding|flagOdd) == 0 && forwardedTrailer(f.known)
}

func forwardedTrailer(k Known) bool { return k == 0 || k >= lastControl }
