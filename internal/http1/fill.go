package http1

import (
	"net/http"
	"net/url"
	"strconv"
)

// Fill describes the request to net/http handlers, as it would go on to an
// origin: without what belongs to the client's connection, under its normal
// path, with our forwarding headers. A well-formed request for WebSocket keeps
// "Connection: Upgrade" and "Upgrade: websocket"; Expect is the caller's matter.
//
// out.URL, out.Header and out.Trailer are used again if they are there; all
// texts are new, in one allocation, and may outlive the buffer. Body, TLS,
// RemoteAddr and the context are left alone. o.Host and o.Expect are not looked
// at.
func (r *Request) Fill(out *http.Request, o *Onward) {
	text := string(r.buf)
	of := func(s span) string { return text[s.start:s.end] }
	out.Method = methodNames[r.kind]
	if r.kind == 0 {
		out.Method = of(r.method)
	}
	out.Proto, out.ProtoMajor, out.ProtoMinor = "HTTP/1.1", 1, int(r.minor)
	if r.minor == 0 {
		out.Proto = "HTTP/1.0"
	}
	out.Host = of(r.fields[r.first[Host]-1].value)
	out.ContentLength, out.TransferEncoding, out.Close = r.ContentLength(), nil, !r.KeepAlive()
	if r.framing == Chunked {
		out.TransferEncoding = []string{"chunked"}
	}
	if out.URL == nil {
		out.URL = new(url.URL)
	}
	out.RequestURI = r.fillURL(out.URL, text)
	if out.Header == nil {
		out.Header = make(http.Header, int(r.n)+5)
	} else {
		clear(out.Header)
	}
	to := filler{out.Header, make([]string, 0, int(r.n)+5)}
	r.fillFields(&to, o, text)
	r.fillForwarded(&to, o.Client, out.Host)
	clear(out.Trailer)
	if r.framing == Chunked && r.Has(Trailer) {
		r.fillAnnounced(out)
	}
}

var methodNames = [...]string{
	MethodGet: "GET", MethodHead: "HEAD", MethodPost: "POST", MethodPut: "PUT",
	MethodPatch: "PATCH", MethodDelete: "DELETE", MethodOptions: "OPTIONS",
}

// fillURL gives the URL its one path, and the request URI that says the same.
func (r *Request) fillURL(u *url.URL, text string) (uri string) {
	path, origin := "", r.target
	if sameArray(r.path, r.target.of(r.buf)) {
		path = text[origin.start : int(origin.start)+len(r.path)]
		uri = text[origin.start:origin.end]
	} else {
		path = string(r.path)
		if uri = path; r.hasQuery {
			uri = path + "?" + text[r.query.start:r.query.end]
		}
	}
	*u = url.URL{Path: path, RawQuery: text[r.query.start:r.query.end], ForceQuery: r.hasQuery && r.query.start == r.query.end}
	for i := range len(path) {
		if class[path[i]]&inURL == 0 { // net/url would spell it otherwise
			u.Path, _ = url.PathUnescape(path) // the path is normal: it has no broken escape
			if u.EscapedPath() != path {
				u.RawPath = path
			}
			break
		}
	}
	return uri
}

// sameArray tells whether two slices begin at the same byte.
func sameArray(a, b []byte) bool { return &a[0] == &b[0] }

// filler makes one-element slices out of one array.
type filler struct {
	h      http.Header
	values []string
}

func (f *filler) set(name, value string) {
	if value == "" {
		delete(f.h, name)
		return
	}
	f.h[name] = f.one(value)
}

func (f *filler) one(value string) []string {
	n := len(f.values)
	f.values = append(f.values, value)
	return f.values[n : n+1 : n+1]
}

// fillFields puts the end-to-end fields into the map.
func (r *Request) fillFields(to *filler, o *Onward, text string) {
	skip := flagHop | flagAlias
	if !o.Client.trusted {
		skip |= flagForwarding
	}
	if !o.KeepOdd {
		skip |= flagOdd
	}
	for i := range r.fields[:r.n] {
		f := &r.fields[i]
		if f.flags&skip != 0 || f.known == Host || f.known == Expect {
			continue
		}
		name, value := names[f.known], text[f.value.start:f.value.end]
		if f.known == 0 {
			name = http.CanonicalHeaderKey(text[f.name.start:f.name.end])
		}
		if (f.known == 0 || f.known >= lastControl || r.several(f.known)) && to.h[name] != nil {
			to.h[name] = append(to.h[name], value)
			continue
		}
		to.h[name] = to.one(value)
	}
	if r.websocket {
		to.h["Connection"], to.h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	if r.wantTrailers {
		to.h["Te"] = []string{"trailers"}
	}
}

// fillAnnounced names the trailers that are announced, as net/http does.
func (r *Request) fillAnnounced(out *http.Request) {
	r.elements(Trailer, func(name []byte) bool {
		if isToken(name) && forwardedTrailer(lookup(name)) {
			if out.Trailer == nil {
				out.Trailer = http.Header{}
			}
			out.Trailer[http.CanonicalHeaderKey(string(name))] = nil
		}
		return true
	})
}

// fillForwarded is appendForwarded for the map.
func (r *Request) fillForwarded(to *filler, c *Client, host string) {
	if c.trusted {
		r.fillTrusted(to, c)
		return
	}
	proto := c.proto(r.websocket)
	to.set("X-Forwarded-For", c.text)
	to.set("X-Real-Ip", c.text)
	to.set("X-Forwarded-Host", host)
	to.set("X-Forwarded-Port", usual(portOf(r.Host(), proto)))
	to.set("X-Forwarded-Proto", usual(proto))
}

// usual is b as text, without an allocation where it is one of the usual ones.
func usual(b []byte) string {
	switch string(b) {
	case "http":
		return "http"
	case "https":
		return "https"
	case "80":
		return "80"
	case "443":
		return "443"
	}
	return string(b)
}

// fillTrusted is appendTrusted for the map.
func (r *Request) fillTrusted(to *filler, c *Client) {
	s := r.said()
	s.settle(r.Host(), c, r.websocket)
	if s.hasForwarded {
		to.h["Forwarded"] = append(to.h["Forwarded"], string(c.appendElement(nil, r.Host(), s.proto)))
	}
	to.set("X-Forwarded-For", string(r.appendChain(nil, c.ip)))
	to.set("X-Real-Ip", string(s.realIP))
	to.set("X-Forwarded-Host", string(s.host))
	to.set("X-Forwarded-Port", string(s.port))
	to.set("X-Forwarded-Proto", string(s.proto))
}

// AddTo adds the trailers that may be forwarded to a net/http header.
func (t *Trailers) AddTo(h http.Header) {
	for i := range t.Len() {
		if t.Forwarded(i) {
			h.Add(string(t.Name(i)), string(t.Value(i)))
		}
	}
}

// AppendLastChunkOf is AppendLastChunk for trailers in a net/http header.
func AppendLastChunkOf(dst []byte, h http.Header) []byte {
	dst = append(dst, "0\r\n"...)
	for name, values := range h {
		if !forwardedTrailer(lookup(name)) {
			continue
		}
		for _, value := range values {
			dst = AppendField(dst, name, value)
		}
	}
	return append(dst, "\r\n"...)
}

// AppendHeader appends the fields that handlers have set, in no order, but for
// those that frame the message or belong to a connection, which the caller
// writes, and those net/http means as trailers. What handlers set wrongly is
// made harmless as by AppendField.
func AppendHeader(dst []byte, h http.Header) []byte {
	for name, values := range h {
		if k := lookup(name); k != 0 && k < lastControl && knownFlags[k]&(flagHop|flagAnew) != 0 {
			continue
		}
		if len(name) > len(http.TrailerPrefix) && name[:len(http.TrailerPrefix)] == http.TrailerPrefix {
			continue
		}
		for _, value := range values {
			dst = AppendField(dst, name, value)
		}
	}
	return dst
}

// AppendHTTPRequest appends the head of a request that handlers may have
// changed, as AppendRequest does for an unchanged one: method, path, fields and
// framing (out.ContentLength, -1 for a chunked body), but no empty line. host
// "" is out.Host. What has no safe reading is refused.
func AppendHTTPRequest(dst []byte, out *http.Request, host string) ([]byte, Reason) {
	if host == "" {
		host = out.Host
	}
	path, why := out.URL.EscapedPath(), Reason(0)
	if path == "" {
		path = "/"
	}
	if path != "*" || out.Method != http.MethodOptions {
		if path, why = NormalPath(path, true); why != 0 {
			return dst, why
		}
	}
	switch query := out.URL.RawQuery; {
	case !isToken(out.Method):
		return dst, BadMethod
	case !ValidHost(host):
		return dst, BadHost
	case endOfTarget([]byte(query), 0) < len(query):
		return dst, BadTarget
	}
	dst = append(append(append(dst, out.Method...), ' '), path...)
	if out.URL.RawQuery != "" || out.URL.ForceQuery {
		dst = append(append(dst, '?'), out.URL.RawQuery...)
	}
	dst = append(append(append(dst, " HTTP/1.1\r\nHost: "...), host...), "\r\n"...)
	dst = AppendHeader(dst, out.Header)
	switch n := out.ContentLength; {
	case n < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		for name := range out.Trailer {
			if forwardedTrailer(lookup(name)) {
				dst = AppendField(dst, "Trailer", name)
			}
		}
	case n > 0 || out.Header["Content-Length"] != nil:
		dst = append(strconv.AppendInt(append(dst, "Content-Length: "...), n, 10), "\r\n"...)
	}
	up := out.Header["Upgrade"]
	switch {
	case len(up) == 1 && equalFold(up[0], "websocket") && out.ContentLength == 0:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case len(out.Header["Te"]) == 1 && out.Header["Te"][0] == "trailers":
		dst = append(dst, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	return dst, 0
}
