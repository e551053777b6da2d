package strict

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/entrypoint"
)

// item is one thing a client may send: what it is answered and what reaches the
// server, byte for byte but for what canon changes.
type item struct {
	name, send, status string
	reach              string // "": nothing at all
}

const (
	host   = "Host: a.com\r\n"
	hidden = "GET /hidden HTTP/1.1\r\nHost: a.com\r\n\r\n"
)

func get(target, fields string) string {
	return "GET " + target + " HTTP/1.1\r\n" + host + fields + "\r\n"
}

func post(fields, body string) string {
	return "POST / HTTP/1.1\r\n" + host + fields + "\r\n" + body
}

// onward is what a request becomes: fields in small letters, sorted.
func onward(line string, fields ...string) string {
	return line + " HTTP/1.1\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n"
}

// TestItems goes through what clients are known to try, on both ways through
// the product. Behind each refused head stands a request that must not be seen.
func TestItems(t *testing.T) {
	groups := map[string][]item{
		"1 framing": framing(), "1 lines": lines(), "1 host": hosts(), "2 chunks": chunks(), "4 limits": limits(),
		"8 methods and upgrades": methods(), "9 forwarded": forwarded(), "10 paths": paths(), "11 expect": expects(),
	}
	for group, items := range groups {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			for _, w := range ways(t, nil) {
				for _, i := range items {
					i.judge(t, w)
				}
			}
		})
	}
}

// TestTrailerLimit: both ways say alike what is wrong with a body under way.
func TestTrailerLimit(t *testing.T) {
	for _, w := range ways(t, nil) {
		answer := w.send(t, post("Transfer-Encoding: chunked\r\n", "0\r\nX: "+strings.Repeat("a", 9000)+"\r\n\r\n")+hidden)
		if s := statuses(answer); strings.Join(s, " ") != "431" {
			t.Errorf("%s: answered %q, want 431", w.name, answer)
		}
	}
}

func (i item) judge(t *testing.T, w *way) {
	t.Helper()
	send := i.send
	if i.reach == "" {
		send += hidden
	}
	answer := w.send(t, send)
	got := w.origin.got()
	where := w.name + ", " + i.name
	if s := statuses(answer); strings.Join(s, " ") != i.status {
		t.Errorf("%s: answered %q, want %s", where, answer, i.status)
	}
	if i.reach == "" {
		if len(got) > 0 {
			t.Errorf("%s: reached the server: %q", where, got)
		}
		if !strings.Contains(strings.ToLower(answer), "connection: close") {
			t.Errorf("%s: the connection goes on: %q", where, answer)
		}
		return
	}
	all := strings.Join(got, "")
	if canon(all) != canon(i.reach) {
		t.Errorf("%s:\n got %q\nwant %q", where, canon(all), canon(i.reach))
	}
}

func framing() []item {
	two := func(a, b string) string { return a + "\r\n" + b + "\r\n" }
	const te, cl = "Transfer-Encoding: chunked", "Content-Length: 5"
	list := []item{
		{"length", post(cl+"\r\n", "hello"), "200", onward("POST /", "content-length: 5", "host: a.com") + "hello"},
		{"chunked", post(te+"\r\n", "5\r\nhello\r\n0\r\n\r\n"), "200", onward("POST /", "host: a.com", "transfer-encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n"},
		{"chunked in capitals", post("TRANSFER-ENCODING: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), "200", onward("POST /", "host: a.com", "transfer-encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n"},
		{"length and hidden is the body", post("Content-Length: 37\r\n", hidden), "200", onward("POST /", "content-length: 37", "host: a.com") + hidden},
		{"TE on HTTP/1.0", "POST / HTTP/1.0\r\n" + host + te + "\r\n\r\n0\r\n\r\n", "400", ""},
		{"TE on HTTP/1.0 with length", "POST / HTTP/1.0\r\n" + host + te + "\r\n" + cl + "\r\n\r\n0\r\n\r\n", "400", ""},
	}
	for name, fields := range map[string]string{
		"CL with TE":            two(cl, te),
		"TE with CL":            two(te, cl),
		"CL 0 with TE":          two("Content-Length: 0", te),
		"two lengths":           two(cl, "Content-Length: 6"),
		"the same length twice": two(cl, cl),
		"list of lengths":       "Content-Length: 5, 6\r\n",
		"list of one length":    "Content-Length: 5, 5\r\n",
		"length with sign":      "Content-Length: +5\r\n",
		"negative length":       "Content-Length: -5\r\n",
		"hexadecimal length":    "Content-Length: 0x5\r\n",
		"length with a point":   "Content-Length: 5.0\r\n",
		"length with a blank":   "Content-Length: 5 5\r\n",
		"empty length":          "Content-Length:\r\n",
		"long length":           "Content-Length: 99999999999999999999\r\n",
		"length of letters":     "Content-Length: five\r\n",
		"two codings":           "Transfer-Encoding: gzip, chunked\r\n",
		"coding after chunked":  "Transfer-Encoding: chunked, identity\r\n",
		"chunked twice":         "Transfer-Encoding: chunked, chunked\r\n",
		"two coding lines":      two(te, te),
		"chunked and identity":  two(te, "Transfer-Encoding: identity"),
		"identity":              "Transfer-Encoding: identity\r\n",
		"empty coding":          "Transfer-Encoding:\r\n",
		"quoted coding":         "Transfer-Encoding: \"chunked\"\r\n",
		"xchunked":              "Transfer-Encoding: xchunked\r\n",
		"chunked with comma":    "Transfer-Encoding: chunked,\r\n",
		"comma before chunked":  "Transfer-Encoding: ,chunked\r\n",
		"parameter":             "Transfer-Encoding: chunked;q=1\r\n",
		"vertical tab":          "Transfer-Encoding: \x0bchunked\r\n",
		"form feed":             "Transfer-Encoding: chunked\x0c\r\n",
		"no-break space":        "Transfer-Encoding: \xa0chunked\r\n",
		"name with blank":       "Transfer-Encoding : chunked\r\n",
		"name with tab":         "Transfer-Encoding\t: chunked\r\n",
		"name after blank":      " Transfer-Encoding: chunked\r\n",
		"name with NUL":         "Transfer-Encoding\x00: chunked\r\n",
		"folded":                "Transfer-Encoding:\r\n chunked\r\n",
		"folded name":           "X: y\r\n\tTransfer-Encoding: chunked\r\n",
		"bare CR before":        "X: y\rTransfer-Encoding: chunked\r\n",
		"bare LF before":        "X: y\nTransfer-Encoding: chunked\r\n",
		"NUL in value":          "Transfer-Encoding: chunked\x00\r\n",
	} {
		list = append(list, item{name, post(fields, "0\r\n\r\n"), "400", ""})
	}
	for name, fields := range map[string]string{
		"alias with underscore": "Transfer_Encoding: chunked\r\n", "alias with point": "Transfer.Encoding: chunked\r\n",
		"alias of the length": "Content_Length: 7\r\n",
	} {
		list = append(list, item{name, post(fields+"Content-Length: 2\r\n", "hi"), "200", onward("POST /", "content-length: 2", "host: a.com") + "hi"})
	}
	return list
}

func lines() []item {
	list := []item{
		{"all bytes of a token", get("/", "!#$%&'*+-^`|~aZ09: x\r\n"), "200", onward("GET /", "!#$%&'*+-^`|~az09: x", "host: a.com")},
		{"tab and bytes over 127 in a value", get("/", "X: a\tb\xff\r\n"), "200", onward("GET /", "host: a.com", "x: a\tb\xff")},
		{"blank line before", "\r\n" + get("/", ""), "200", onward("GET /", "host: a.com")},
		{"two blank lines before", "\r\n\r\n" + get("/", ""), "400", ""},
	}
	for name, send := range map[string]string{
		"bare LF in the request line":  "GET / HTTP/1.1\n" + host + "\r\n",
		"bare LF in the head":          "GET / HTTP/1.1\r\nHost: a.com\nX: y\r\n\r\n",
		"bare LF at the end":           "GET / HTTP/1.1\r\nHost: a.com\r\n\n",
		"bare CR in the request line":  "GET / HTTP/1.1\r" + host + "\r\n",
		"bare CR in a value":           get("/", "X: a\rb\r\n"),
		"CR CR LF":                     get("/", "X: a\r\r\n"),
		"folding":                      get("/", "X: a\r\n b\r\n"),
		"folding with tab":             get("/", "X: a\r\n\tb\r\n"),
		"folding of the first line":    "GET / HTTP/1.1\r\n X: y\r\n" + host + "\r\n",
		"line without colon":           get("/", "nonsense\r\n"),
		"empty name":                   get("/", ": x\r\n"),
		"blank before colon":           get("/", "X : y\r\n"),
		"blank in name":                get("/", "X Y: z\r\n"),
		"name with parenthesis":        get("/", "X(: z\r\n"),
		"name with quotes":             get("/", "\"X\": z\r\n"),
		"name over 127":                get("/", "X\xc3\xa9: z\r\n"),
		"NUL in name":                  get("/", "X\x00: z\r\n"),
		"NUL in value":                 get("/", "X: a\x00b\r\n"),
		"control byte in value":        get("/", "X: a\x01b\r\n"),
		"escape in value":              get("/", "X: a\x1bb\r\n"),
		"DEL in value":                 get("/", "X: a\x7fb\r\n"),
		"two blanks in the line":       "GET  / HTTP/1.1\r\n" + host + "\r\n",
		"tab in the line":              "GET\t/\tHTTP/1.1\r\n" + host + "\r\n",
		"blank before the method":      " GET / HTTP/1.1\r\n" + host + "\r\n",
		"blank behind the version":     "GET / HTTP/1.1 \r\n" + host + "\r\n",
		"small letters in the version": "GET / http/1.1\r\n" + host + "\r\n",
		"version 1.2":                  "GET / HTTP/1.10\r\n" + host + "\r\n",
		"version of one digit":         "GET / HTTP/1\r\n" + host + "\r\n",
		"method that is no token":      "G(T / HTTP/1.1\r\n" + host + "\r\n",
		"no target":                    "GET HTTP/1.1\r\n" + host + "\r\n",
		"blank in the target":          "GET /a b HTTP/1.1\r\n" + host + "\r\n",
	} {
		list = append(list, item{name, send, "400", ""})
	}
	return append(list,
		item{"version 0.9", "GET / HTTP/0.9\r\n" + host + "\r\n", "505", ""},
		item{"version 2.0", "GET / HTTP/2.0\r\n" + host + "\r\n", "505", ""})
}

func hosts() []item {
	list := []item{
		{"name with port", "GET / HTTP/1.1\r\nHost: a.com:8080\r\n\r\n", "200", onward("GET /", "host: a.com:8080")},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "200", onward("GET /", "host: [::1]:80")},
		{"absolute target", "GET http://a.com/x HTTP/1.1\r\nHost: a.com\r\n\r\n", "200", onward("GET /x", "host: a.com")},
		{"alias of Host", get("/", "Host_: b.com\r\n"), "200", onward("GET /", "host: a.com")},
	}
	for name, head := range map[string]string{
		"none": "", "empty": "Host:\r\n", "two": "Host: a.com\r\nHost: b.com\r\n", "the same twice": "Host: a.com\r\nHost: a.com\r\n",
		"user": "Host: u@a.com\r\n", "path": "Host: a.com/x\r\n", "query": "Host: a.com?x\r\n", "fragment": "Host: a.com#x\r\n",
		"list": "Host: a.com, b.com\r\n", "blank": "Host: a.com b.com\r\n", "letters for a port": "Host: a.com:http\r\n",
		"port too large": "Host: a.com:65536\r\n", "percent": "Host: a%2ecom\r\n", "open bracket": "Host: [::1\r\n",
		"zone": "Host: [fe80::1%25eth0]\r\n", "backslash": "Host: a\\b\r\n", "over 127": "Host: \xc3\xa9.com\r\n",
		"blank before colon": "Host : a.com\r\n", "control byte": "Host: a\x01.com\r\n",
	} {
		list = append(list, item{name, "GET / HTTP/1.1\r\n" + head + "\r\n", "400", ""})
	}
	return append(list,
		item{"absolute target beside another", "GET http://a.com/ HTTP/1.1\r\nHost: b.com\r\n\r\n", "400", ""},
		item{"absolute target with user", "GET http://u@a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n", "400", ""})
}

func chunks() []item {
	const te = "Transfer-Encoding: chunked\r\n"
	whole := onward("POST /", "host: a.com", "transfer-encoding: chunked")
	return []item{
		{"extension", post(te, "5;a=b\r\nhello\r\n0\r\n\r\n"), "200", whole + "5\r\nhello\r\n0\r\n\r\n"},
		{"capital digits and zeros", post(te, "00A\r\n0123456789\r\n000\r\n\r\n"), "200", whole + "a\r\n0123456789\r\n0\r\n\r\n"},
		{"two pipelined", post(te, "1\r\nx\r\n0\r\n\r\n") + get("/next", ""), "200 200",
			whole + "1\r\nx\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a.com\r\n\r\n"},
	}
}

// TestBadChunks: a body that turns out bad is never completed, and the
// connection to the server is not used again.
func TestBadChunks(t *testing.T) {
	n := 0
	for _, w := range ways(t, nil) {
		for name, body := range map[string]string{
			"size of letters":     "5\r\nhello\r\nxyz\r\n",
			"size with sign":      "5\r\nhello\r\n+5\r\nhello\r\n0\r\n\r\n",
			"size with prefix":    "5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n",
			"size too long":       "5\r\nhello\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
			"blank before size":   "5\r\nhello\r\n 5\r\nhello\r\n0\r\n\r\n",
			"no end of chunk":     "5\r\nhello0\r\n\r\n",
			"chunk too long":      "5\r\nhelloX\r\n0\r\n\r\n",
			"LF for CR LF":        "5\r\nhello\n0\r\n\r\n",
			"LF after size":       "5\nhello\r\n0\r\n\r\n",
			"CR after size":       "5\rhello\r\n0\r\n\r\n",
			"LF in extension":     "5;a\nb\r\nhello\r\n0\r\n\r\n",
			"CR in extension":     "5;a\rb\r\nhello\r\n0\r\n\r\n",
			"empty size":          "5\r\nhello\r\n\r\n0\r\n\r\n",
			"NUL in extension":    "5;a=\x00\r\nhello\r\n0\r\n\r\n",
			"trailer without end": "0\r\nX: y\n\r\n",
			"folded trailer":      "0\r\nX: y\r\n z\r\n\r\n",
		} {
			answer := w.send(t, post("Transfer-Encoding: chunked\r\n", body+hidden))
			where := w.name + ", " + name
			if s := statuses(answer); len(s) != 1 || s[0] != "400" || !strings.Contains(strings.ToLower(answer), "connection: close") {
				t.Errorf("%s: answered %q, want 400 and the end of the connection", where, answer)
			}
			for _, got := range w.origin.got() {
				if strings.Contains(got, "\n0\r\n\r\n") || strings.Contains(got, "hidden") {
					t.Errorf("%s: the server got a whole request: %q", where, got)
				}
			}
			after := fmt.Sprintf("/after-%s-%d", w.name, n)
			if s := statuses(w.send(t, get(after, ""))); len(s) != 1 || s[0] != "200" {
				t.Errorf("%s: then %v", where, s)
			}
			if all := w.origin.carried(after); !strings.HasPrefix(all, "GET "+after+" ") {
				t.Errorf("%s: the server got more by the same connection: %q", where, all)
			}
			n++
		}
	}
}

func limits() []item {
	long := strings.Repeat("x", 40<<10)
	return []item{
		{"target of 8 KiB", get("/"+long[:8191], ""), "200", onward("GET /"+long[:8191], "host: a.com")},
		{"target over 8 KiB", get("/"+long[:8192], ""), "414", ""},
		{"lines at the limit", get("/", strings.Repeat("X: 1\r\n", 127)), "200",
			onward("GET /", append([]string{"host: a.com"}, strings.Split(strings.Repeat("x: 1,", 127), ",")[:127]...)...)},
		{"lines over the limit", get("/", strings.Repeat("X: 1\r\n", 128)), "431", ""},
		{"large head", get("/", "X: "+long[:30<<10]+"\r\n"), "200", onward("GET /", "host: a.com", "x: "+long[:30<<10])},
		{"head over the limit", get("/", "X: "+long+"\r\n"), "431", ""},
		{"long name", get("/", long+": x\r\n"), "431", ""},
		{"long method", long[:10<<10] + " / HTTP/1.1\r\n" + host + "\r\n", "400", ""},
	}
}

func methods() []item {
	list := []item{
		{"CONNECT", "CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\n\r\n", "405", ""},
		{"CONNECT of a path", "CONNECT / HTTP/1.1\r\n" + host + "\r\n", "405", ""},
		{"TRACE", "TRACE / HTTP/1.1\r\n" + host + "\r\n", "405", ""},
		{"TRACK", "TRACK / HTTP/1.1\r\n" + host + "\r\n", "405", ""},
		{"asterisk", "GET * HTTP/1.1\r\n" + host + "\r\n", "400", ""},
		{"unknown method", "PURGE / HTTP/1.1\r\n" + host + "\r\n", "200", onward("PURGE /", "host: a.com")},
		{"upgrade to h2c", get("/", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"), "200", onward("GET /", "host: a.com")},
		{"upgrade to something", get("/", "Connection: Upgrade\r\nUpgrade: foo\r\n"), "200", onward("GET /", "host: a.com")},
		{"upgrade nobody asked for", get("/", "Upgrade: websocket\r\n"), "200", onward("GET /", "host: a.com")},
		{"upgrade of a POST", post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n", ""), "200", onward("POST /", "content-length: 0", "host: a.com")},
		{"upgrade on HTTP/1.0", "GET / HTTP/1.0\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "200", onward("GET /", "host: a.com")},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", ""},
	}
	// The server does not switch: what follows is a request, not a tunnel.
	return append(list, item{"upgrade the server does not take",
		get("/", "Connection: Upgrade\r\nUpgrade: websocket\r\n") + get("/next", ""), "200 200",
		"GET / HTTP/1.1\r\nconnection: Upgrade\r\nhost: a.com\r\nupgrade: websocket\r\n\r\n" + "GET /next HTTP/1.1\r\nHost: a.com\r\n\r\n"})
}

func forwarded() []item {
	clean := onward("GET /", "host: a.com")
	var list []item
	for _, name := range []string{
		"Forwarded", "FORWARDED", "X-Forwarded-For", "x-forwarded-for", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port",
		"X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Tls-Client-Cert", "X-Real-Ip", "X-REAL-IP",
		"X_Forwarded_For", "X-Forwarded_For", "X.Forwarded.For", "x_real_ip", "X.Real-Ip", "Forwarded_", "X_Anything", "X.Anything",
		"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "HTTP2-Settings", "Te",
	} {
		list = append(list, item{name, get("/", name+": 6.6.6.6\r\n"), "200", clean})
	}
	return append(list,
		item{"named by Connection", get("/", "Connection: close, X-Mine\r\nX-Mine: 1\r\n"), "200", clean},
		item{"ours named by Connection", get("/", "Connection: X-Forwarded-For, X-Real-Ip, Host\r\n"), "200", clean},
		item{"TE trailers", get("/", "TE: trailers\r\n"), "200", onward("GET /", "connection: TE", "host: a.com", "te: trailers")})
}

func paths() []item {
	var list []item
	for in, want := range map[string]string{
		"/a/../b": "/b", "/a/./b": "/a/b", "//a///b": "/a/b", "/%61/%2e%2E/b": "/b", "/..%2e/a": "/.../a", "/../../a": "/a",
		"/%7euser": "/~user", "/a%20b": "/a%20b", "/%c3%a9": "/%C3%A9", "/a;b=c": "/a;b=c", "/a?x=/../%2f\\": "/a?x=/../%2f\\",
		"/%252e%252e/": "/%252e%252e/", "/a|b": "/a%7Cb",
	} {
		list = append(list, item{in, get(in, ""), "200", onward("GET "+want, "host: a.com")})
	}
	for _, in := range []string{
		"/a%2fb", "/a%2Fb", "/a%5cb", "/a%00b", "/a\\b", "/a\x01", "/a\x7f", "/\xc3\xa9", "/%", "/%2", "/%zz", "/a#b", "a", "..", "?x",
		"http:/a", "//%2f", "/..%2f..", "/%2e%2e%5c",
	} {
		list = append(list, item{in, get(in, ""), "400", ""})
	}
	return list
}

func expects() []item {
	return []item{
		{"continue", post("Expect: 100-continue\r\nContent-Length: 2\r\n", "hi"), "100 200",
			onward("POST /", "content-length: 2", "expect: 100-continue", "host: a.com") + "hi"},
		{"something else", post("Expect: 200-ok\r\nContent-Length: 2\r\n", "hi"), "417", ""},
		{"two", post("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 2\r\n", "hi"), "417", ""},
		{"HTTP/1.0", "POST / HTTP/1.0\r\n" + host + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", "200",
			onward("POST /", "content-length: 2", "host: a.com") + "hi"},
		{"GET with a body", get("/", "Content-Length: 2\r\n") + "hi", "200", onward("GET /", "content-length: 2", "host: a.com") + "hi"},
		{"GET with chunks", get("/", "Transfer-Encoding: chunked\r\n") + "2\r\nhi\r\n0\r\n\r\n", "200",
			onward("GET /", "host: a.com", "transfer-encoding: chunked") + "2\r\nhi\r\n0\r\n\r\n"},
		{"GET without", get("/", ""), "200", onward("GET /", "host: a.com")},
		{"POST without", "POST / HTTP/1.1\r\n" + host + "\r\n", "200", onward("POST /", "host: a.com")},
	}
}

// TestUnfinished (items 3 and 12): a body without an end is cut off, never
// completed, and nothing of it is sent twice.
func TestUnfinished(t *testing.T) {
	for _, w := range ways(t, func(o *entrypoint.Options) { o.BodyReadTimeout = 300 * time.Millisecond }) {
		for name, send := range map[string]string{
			"length":  post("Content-Length: 1000\r\n", "half"),
			"chunked": post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n5\r\nhe"),
		} {
			answer := w.send(t, send)
			if s := statuses(answer); len(s) > 1 || len(s) == 1 && s[0] != "408" && s[0] != "400" {
				t.Errorf("%s, %s: answered %q", w.name, name, answer)
			}
			got := w.origin.got()
			if len(got) > 1 || len(got) == 1 && (strings.HasSuffix(got[0], "\n0\r\n\r\n") || strings.Count(got[0], "POST") != 1) {
				t.Errorf("%s, %s: the server got %q", w.name, name, got)
			}
		}
	}
}

// TestNeverTwice (item 12): a request that may have been begun is not sent
// again, unless that is safe.
func TestNeverTwice(t *testing.T) {
	for _, w := range ways(t, nil) {
		w.origin.answer = func(string) string { return "" }
		for name, c := range map[string]struct {
			send string
			most int
		}{
			"POST":           {post("Content-Length: 5\r\n", "hello"), 1},
			"POST in chunks": {post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), 1},
			"PATCH":          {"PATCH / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", 1},
			"GET":            {get("/", ""), 2},
		} {
			answer := w.send(t, c.send)
			if s := statuses(answer); len(s) != 1 || s[0] != "502" {
				t.Errorf("%s, %s: answered %q", w.name, name, answer)
			}
			if got := w.origin.got(); len(got) == 0 || len(got) > c.most {
				t.Errorf("%s, %s: sent %d times: %q", w.name, name, len(got), got)
			}
		}
	}
}
