package http1

import "net/http"

// Fill adds the end-to-end fields of the answer to a net/http header: without
// what belongs to the origin's connection and what frames the message, but with
// Content-Length where the answer says how long its content is. All texts are
// new, in one allocation, and may outlive the buffer.
func (r *Response) Fill(h http.Header) {
	text := string(r.buf)
	to := filler{h, make([]string, 0, int(r.n))}
	for i := range r.fields[:r.n] {
		f := &r.fields[i]
		if f.known == ContentLength && r.length >= 0 {
			h["Content-Length"] = to.one(text[f.value.start:f.value.end])
			continue
		}
		if f.flags&(flagHop|flagAnew) != 0 {
			continue
		}
		name, value := names[f.known], text[f.value.start:f.value.end]
		if f.known == 0 {
			name = http.CanonicalHeaderKey(text[f.name.start:f.name.end])
		}
		if have := h[name]; have != nil {
			h[name] = append(have, value)
			continue
		}
		h[name] = to.one(value)
	}
}

// Announced gives the names of the trailers that the answer announces and that
// may be forwarded.
func (r *Response) Announced() (list []string) {
	if !r.Has(Trailer) {
		return nil
	}
	r.elements(Trailer, func(name []byte) bool {
		if isToken(name) && forwardedTrailer(lookup(name)) {
			list = append(list, http.CanonicalHeaderKey(string(name)))
		}
		return true
	})
	return list
}
