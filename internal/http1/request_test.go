package http1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// parse parses a whole head in one go.
func parse(t testing.TB, head string) (*Request, int, Reason) {
	t.Helper()
	req, rules := new(Request), DefaultRules()
	req.Reset()
	n, why := req.Parse([]byte(head), &rules)
	return req, n, why
}

// parseSlowly gives the parser the head byte by byte, in a new array each time.
func parseSlowly(t testing.TB, head string) (*Request, int, Reason) {
	t.Helper()
	req, rules := new(Request), DefaultRules()
	req.Reset()
	for i := 0; i <= len(head); i++ {
		if i > 1<<10 && i < len(head)-100 && i%1000 > 0 {
			continue // the long ones are long in the middle
		}
		n, why := req.Parse(append(make([]byte, 0, i), head[:i]...), &rules)
		if n != 0 || why != 0 {
			return req, n, why
		}
	}
	return req, 0, 0
}

// parseSplit gives the parser the head in two parts.
func parseSplit(t testing.TB, head string, at int) (*Request, int, Reason) {
	t.Helper()
	req, rules := new(Request), DefaultRules()
	req.Reset()
	n, why := req.Parse([]byte(head[:at]), &rules)
	if n == 0 && why == 0 {
		n, why = req.Parse([]byte(head), &rules)
	}
	return req, n, why
}

// reading is everything the parser made of a head.
func reading(r *Request) string {
	var b strings.Builder
	query, has := r.Query()
	fmt.Fprintf(&b, "%s %s %v%q 1.%d host=%s %v/%d", r.Method(), r.Path(), has, query, r.Minor(), r.Host(), r.Framing(), r.ContentLength())
	for _, flag := range []struct {
		name string
		on   bool
	}{{"keep", r.KeepAlive()}, {"expect", r.Expects100()}, {"websocket", r.WebSocket()}, {"trailers", r.WantsTrailers()}} {
		if flag.on {
			b.WriteString(" " + flag.name)
		}
	}
	b.WriteByte('\n')
	for i := range r.Len() {
		hop := ""
		if r.Hop(i) {
			hop = "-"
		}
		fmt.Fprintf(&b, "%s%s=%s\n", hop, r.Name(i), r.Value(i))
	}
	return b.String()
}

func get(target, rest string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: a.com\r\n" + rest + "\r\n"
}

func post(rest string) string { return "POST / HTTP/1.1\r\nHost: a.com\r\n" + rest + "\r\n" }

type refused struct {
	name, head string
	want       Reason
}

var refusedHeads = []refused{
	// the request line
	{"nothing but LF", "\n", BareLF},
	{"CR and no LF", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareCR},
	{"two empty lines", "\r\n\r\n" + get("/", ""), BadMethod},
	{"binary", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BadMethod},
	{"space before the method", " " + get("/", ""), BadMethod},
	{"blank line of spaces", "   \r\n\r\n", BadMethod},
	{"method with brackets", strings.Replace(get("/", ""), "GET", "G[T", 1), BadMethod},
	{"method not ASCII", strings.Replace(get("/", ""), "GET", "G\xc3\x89T", 1), BadMethod},
	{"long method", strings.Repeat("A", 33) + " / HTTP/1.1\r\nHost: a\r\n\r\n", BadMethod},
	{"no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget},
	{"empty target", "GET  HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget},
	{"two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BadTarget},
	{"two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", BadVersion},
	{"tab before the target", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", BadMethod},
	{"tab before the version", "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", BadTarget},
	{"space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", BadVersion},
	{"HTTP/0.9", "GET /\r\n", BadTarget},
	{"HTTP/0.9 with space", "GET / \r\n", BadVersion},
	{"HTTP/0.9 by number", strings.Replace(get("/", ""), "1.1", "0.9", 1), UnknownVersion},
	{"HTTP/1.2", strings.Replace(get("/", ""), "1.1", "1.2", 1), UnknownVersion},
	{"HTTP/2.0", strings.Replace(get("/", ""), "1.1", "2.0", 1), UnknownVersion},
	{"HTTP/9.9", strings.Replace(get("/", ""), "1.1", "9.9", 1), UnknownVersion},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UnknownVersion},
	{"http/1.1", strings.Replace(get("/", ""), "HTTP", "http", 1), BadVersion},
	{"HTTP/1", strings.Replace(get("/", ""), "1.1", "1", 1), BadVersion},
	{"HTTP/01.1", strings.Replace(get("/", ""), "1.1", "01.1", 1), BadVersion},
	{"HTTP/1.01", strings.Replace(get("/", ""), "1.1", "1.01", 1), BadVersion},
	{"HTTP/1.1x", strings.Replace(get("/", ""), "1.1", "1.1x", 1), BadVersion},
	{"HTTP/ 1.1", strings.Replace(get("/", ""), "/1.1", "/ 1.1", 1), BadVersion},
	{"HTTP/1,1", strings.Replace(get("/", ""), "1.1", "1,1", 1), BadVersion},
	{"HTTP/x.1", strings.Replace(get("/", ""), "1.1", "x.1", 1), BadVersion},
	{"CONNECT", "CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\n\r\n", MethodRefused},
	{"TRACE", "TRACE / HTTP/1.1\r\nHost: a.com\r\n\r\n", MethodRefused},
	{"TRACK", "TRACK / HTTP/1.1\r\nHost: a.com\r\n\r\n", MethodRefused},

	// the target
	{"NUL in the target", get("/a\x00b", ""), BadTarget},
	{"control byte in the target", get("/a\x01b", ""), BadTarget},
	{"DEL in the target", get("/a\x7fb", ""), BadTarget},
	{"not ASCII", get("/\xc3\xa9", ""), BadTarget},
	{"overlong UTF-8", get("/\xc0\xaf", ""), BadTarget},
	{"fragment", get("/a#b", ""), Fragment},
	{"asterisk", get("*", ""), BadTarget},
	{"asterisk and more", "OPTIONS *a HTTP/1.1\r\nHost: a.com\r\n\r\n", BadTarget},
	{"no slash", get("a/b", ""), BadTarget},
	{"authority", get("a.com:80", ""), BadTarget},
	{"other scheme", get("ftp://a.com/", ""), BadTarget},
	{"no authority", get("http:///x", ""), BadHost},
	{"nothing behind the scheme", get("http://", ""), BadTarget},
	{"one slash", get("http:/x", ""), BadTarget},
	{"userinfo in the target", get("http://u@a.com/", ""), BadHost},
	{"Host differs from the target", get("http://b.com/", ""), HostMismatch},
	{"port differs from the target", get("http://a.com:80/", ""), HostMismatch},
	{"backslash as slash", get(`http://a.com\x/`, ""), BadHost},
	{"backslash", get(`/a\b`, ""), BadPath},
	{"encoded slash", get("/a%2fb", ""), BadPath},
	{"encoded backslash", get("/a%5Cb", ""), BadPath},
	{"encoded NUL", get("/a%00b", ""), BadPath},
	{"encoded CRLF", get("/a%0d%0aX:1", ""), BadPath},
	{"encoded DEL", get("/%7f", ""), BadPath},
	{"broken escape", get("/%", ""), BadPath},
	{"broken escape 2", get("/%4", ""), BadPath},
	{"broken escape 3", get("/%zz", ""), BadPath},

	// line ends
	{"LF lines", "GET / HTTP/1.1\nHost: a.com\n\n", BareLF},
	{"CR lines", "GET / HTTP/1.1\rHost: a.com\r\r", BareCR},
	{"LF after a field", "GET / HTTP/1.1\r\nHost: a.com\n\r\n", BareLF},
	{"LF as the end", "GET / HTTP/1.1\r\nHost: a.com\r\n\n", BareLF},
	{"CR as the end", "GET / HTTP/1.1\r\nHost: a.com\r\n\rx", BareCR},
	{"CR in a value", get("/", "X: a\rb\r\n"), BareCR},
	{"CR CR LF", get("/", "X: a\r\r\n"), BareCR},
	{"LF in a value", get("/", "X: a\nTransfer-Encoding: chunked\r\n"), BareLF},

	// names
	{"no name", get("/", ": x\r\n"), BadName},
	{"no colon", get("/", "X\r\n"), NoColon},
	{"space before the colon", get("/", "X : 1\r\n"), SpaceBeforeColon},
	{"tab before the colon", get("/", "Content-Length\t: 1\r\n"), SpaceBeforeColon},
	{"space in a name", get("/", "X Y: 1\r\n"), SpaceBeforeColon},
	{"brackets in a name", get("/", "X[]: 1\r\n"), BadName},
	{"NUL in a name", get("/", "X\x00: 1\r\n"), BadName},
	{"not ASCII in a name", get("/", "X\xe9: 1\r\n"), BadName},
	{"first byte of a name", get("/", "\x0bX: 1\r\n"), BadName},
	{"obs-fold", get("/", "X: 1\r\n 2\r\n"), Fold},
	{"obs-fold with tab", get("/", "X: 1\r\n\tTransfer-Encoding: chunked\r\n"), Fold},
	{"whitespace before the first field", "GET / HTTP/1.1\r\n Host: a.com\r\n\r\n", Fold},
	{"fold of nothing", get("/", "X: 1\r\n \r\n"), Fold},

	// Host
	{"no Host", "GET / HTTP/1.1\r\nX: 1\r\n\r\n", NoHost},
	{"no Host on 1.0", "GET / HTTP/1.0\r\n\r\n", NoHost},
	{"two Hosts", get("/", "Host: b.com\r\n"), SeveralHosts},
	{"the same Host twice", get("/", "hOST: a.com\r\n"), SeveralHosts},

	// framing
	{"length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding},
	{"coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), LengthAndCoding},
	{"length 0 and coding", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding},
	{"two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n"), SeveralLengths},
	{"the same length twice", post("Content-Length: 5\r\ncontent-length: 5\r\n"), SeveralLengths},
	{"coding on 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", CodingOn10},
	{"two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), BadCoding},
	{"coding and nothing", post("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"), BadCoding},

	// limits
	{"long target", get("/"+strings.Repeat("x", 8<<10), ""), TargetTooLong},
	{"long target without end", "GET /" + strings.Repeat("x", 9<<10), TargetTooLong},
	{"many lines", get("/", strings.Repeat("X: 1\r\n", 128)), TooManyLines},
	{"large head", get("/", "X: "+strings.Repeat("x", 40<<10)+"\r\n"), HeadTooLarge},
	{"large head without end", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 40<<10), HeadTooLarge},
	{"long name", get("/", strings.Repeat("x", 40<<10)+": 1\r\n"), HeadTooLarge},

	// the rest
	{"expectation", get("/", "Expect: 200-ok\r\n"), BadExpect},
	{"expectations", get("/", "Expect: 100-continue\r\nExpect: 100-continue\r\n"), BadExpect},
	{"list of expectations", get("/", "Expect: 100-continue, x\r\n"), BadExpect},
	{"option that is no token", get("/", "Connection: close;x\r\n"), BadConnection},
	{"quoted option", get("/", "Connection: \"close\"\r\n"), BadConnection},
	{"announced length", post("Transfer-Encoding: chunked\r\nTrailer: X, Content-Length\r\n"), BadTrailer},
	{"many options", get("/", "Connection: "+strings.Repeat("a,", 33)+"\r\n"), BadConnection},
}

// refusedByRule is more of the same kind.
func refusedByRule() (all []refused) {
	add := func(name, head string, want Reason) { all = append(all, refused{name, head, want}) }
	for _, v := range []string{"", " ", "+5", "-5", "-0", "0x5", "0o5", "5_0", "1 2", "5,5", "5, 5", ", 5", "5;", "5.0", "1e2", "٥",
		"05", "00", "0000", "9223372036854775808", "99999999999999999999999", "5 \t6", "\"5\""} {
		add("length "+v, post("Content-Length: "+v+"\r\n"), BadLength)
	}
	for _, v := range []string{"", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", ", chunked", "chunked,",
		"xchunked", "chunkedx", "chunk", "chunked;q=1", "\"chunked\"", "'chunked'", "chunked chunked", "chun\tked", "cow", "chunked\xa0", "\xa0chunked"} {
		add("coding "+v, post("Transfer-Encoding: "+v+"\r\n"), BadCoding)
	}
	for c := range 256 {
		if b := byte(c); class[b]&inValue == 0 && b != '\r' && b != '\n' {
			add(fmt.Sprintf("byte %#x in a value", c), get("/", "X: a"+string([]byte{b})+"b\r\n"), BadValue)
			add(fmt.Sprintf("byte %#x behind a coding", c), post("Transfer-Encoding: chunked"+string([]byte{b})+"\r\n"), BadValue)
		}
	}
	for _, v := range []string{"", ":80", "a b", "a,b", "a.com, b.com", "u@a.com", "a.com:80:81", "[::1", "::1", "[10.0.0.1]", "[fe80::1%25eth0]",
		"a.com:65536", "a.com/x", "a.com/", "a..com", `a\b`, "ex\xc3\xa4mple.com", ".a", "a:+80", "a:8o", "a;b", "[::1]x", "[]", "a%2ecom", "a?b",
		"a#b", "http://a.com", "*", "a.com:-1", "a.com:000080", "\"a\"", "a\tb", strings.Repeat("a", 256)} {
		add("Host "+v, "GET / HTTP/1.1\r\nHost: "+v+"\r\n\r\n", BadHost)
	}
	return all
}

func TestRefusedHeads(t *testing.T) {
	for _, c := range append(refusedByRule(), refusedHeads...) {
		if _, n, why := parse(t, c.head); why != c.want || n != 0 {
			t.Errorf("%s: %d, %v, want %v", c.name, n, why, c.want)
		}
		if _, n, why := parseSlowly(t, c.head); why != c.want || n != 0 {
			t.Errorf("%s, byte by byte: %d, %v, want %v", c.name, n, why, c.want)
		}
	}
}

// TestAcceptedHeads: what is accepted, and its one reading.
func TestAcceptedHeads(t *testing.T) {
	for _, c := range []struct{ name, head, want string }{
		{"plain", "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n", "GET / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: a.com\r\n\r\n", "GET / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"1.0", "GET / HTTP/1.0\r\nHost: a.com\r\n\r\n", "GET / false\"\" 1.0 host=a.com 0/0\nHost=a.com\n"},
		{"1.0 kept", "GET / HTTP/1.0\r\nHost: a.com\r\nConnection: Keep-Alive\r\n\r\n", "GET / false\"\" 1.0 host=a.com 0/0 keep\nHost=a.com\n-Connection=Keep-Alive\n"},
		{"close wins", get("/", "Connection: keep-alive\r\nConnection: x , CLOSE,\r\n"), "GET / false\"\" 1.1 host=a.com 0/0\nHost=a.com\n-Connection=keep-alive\n-Connection=x , CLOSE,\n"},
		{"any method", "M-SEARCH / HTTP/1.1\r\nHost: a.com\r\n\r\n", "M-SEARCH / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"method in small letters is another", "get / HTTP/1.1\r\nHost: a.com\r\n\r\n", "get / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"query", get(`/a?b=/../%2F\&c?d`, ""), `GET /a true"b=/../%2F\\&c?d" 1.1 host=a.com 0/0 keep` + "\nHost=a.com\n"},
		{"empty query", get("/a?", ""), "GET /a true\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"path", get("/a/./b/../%7ec%c3%a9//d?x", ""), "GET /a/~c%C3%A9/d true\"x\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"absolute", get("HTTP://A.com/x?y", ""), "GET /x true\"y\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"absolute https", get("https://a.com/x", ""), "GET /x false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"absolute without path", get("http://a.com", ""), "GET / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"absolute with query only", get("http://a.com?q", ""), "GET / true\"q\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a.com\r\n\r\n", "OPTIONS * false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"absolute asterisk", "OPTIONS http://a.com HTTP/1.1\r\nHost: a.com\r\n\r\n", "OPTIONS * false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET / false\"\" 1.1 host=[::1]:80 0/0 keep\nHost=[::1]:80\n"},
		{"values", get("/", "A:1\r\nB:\t 2 \t\r\nC:\r\nD: \r\nE: a\tb \xff\r\n"), "GET / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\nA=1\nB=2\nC=\nD=\nE=a\tb \xff\n"},
		{"length", post("content-LENGTH: 5\r\n"), "POST / false\"\" 1.1 host=a.com 1/5 keep\nHost=a.com\ncontent-LENGTH=5\n"},
		{"length with space around", post("Content-Length:  5 \r\n"), "POST / false\"\" 1.1 host=a.com 1/5 keep\nHost=a.com\nContent-Length=5\n"},
		{"length 0", post("Content-Length: 0\r\n"), "POST / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\nContent-Length=0\n"},
		{"largest length", post("Content-Length: 9223372036854775807\r\n"), "POST / false\"\" 1.1 host=a.com 1/9223372036854775807 keep\nHost=a.com\nContent-Length=9223372036854775807\n"},
		{"no length", post(""), "POST / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n"},
		{"GET with body", get("/", "Content-Length: 5\r\n"), "GET / false\"\" 1.1 host=a.com 1/5 keep\nHost=a.com\nContent-Length=5\n"},
		{"chunked", post("TRANSFER-ENCODING: Chunked\r\n"), "POST / false\"\" 1.1 host=a.com 2/-1 keep\nHost=a.com\n-TRANSFER-ENCODING=Chunked\n"},
		{"chunked behind tab", post("Transfer-Encoding:\tchunked \r\n"), "POST / false\"\" 1.1 host=a.com 2/-1 keep\nHost=a.com\n-Transfer-Encoding=chunked\n"},
		{"expect", post("Expect: 100-Continue\r\nContent-Length: 1\r\n"), "POST / false\"\" 1.1 host=a.com 1/1 keep expect\nHost=a.com\nExpect=100-Continue\nContent-Length=1\n"},
		{"expect without body", post("Expect: 100-continue\r\n"), "POST / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\nExpect=100-continue\n"},
		{"expect on 1.0", "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", "POST / false\"\" 1.0 host=a 1/1\nHost=a\nExpect=100-continue\nContent-Length=1\n"},
		{"websocket", get("/", "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"), "GET / false\"\" 1.1 host=a.com 0/0 keep websocket\nHost=a.com\n-Connection=keep-alive, Upgrade\n-Upgrade=WebSocket\n"},
		{"websocket without option", get("/", "Upgrade: websocket\r\n"), "GET / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n-Upgrade=websocket\n"},
		{"websocket by POST", post("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "POST / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n-Connection=Upgrade\n-Upgrade=websocket\n"},
		{"websocket with body", get("/", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n"), "GET / false\"\" 1.1 host=a.com 1/1 keep\nHost=a.com\n-Connection=Upgrade\n-Upgrade=websocket\nContent-Length=1\n"},
		{"websocket or else", get("/", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"), "GET / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n-Connection=Upgrade\n-Upgrade=websocket, h2c\n"},
		{"h2c", get("/", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"), "GET / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n-Connection=Upgrade, HTTP2-Settings\n-Upgrade=h2c\n-HTTP2-Settings=x\n"},
		{"te", get("/", "TE: gzip;q=0.5, Trailers\r\n"), "GET / false\"\" 1.1 host=a.com 0/0 keep trailers\nHost=a.com\n-TE=gzip;q=0.5, Trailers\n"},
		{"options", get("/", "X-A: 1\r\nConnection: x-a, X-B\r\nx-b: 2\r\nX-B: 3\r\nX-C: 4\r\n"), "GET / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\n-X-A=1\n-Connection=x-a, X-B\n-x-b=2\n-X-B=3\nX-C=4\n"},
		{"options cannot take framing", post("Connection: Host, Content-Length, Expect\r\nContent-Length: 2\r\n"), "POST / false\"\" 1.1 host=a.com 1/2 keep\nHost=a.com\n-Connection=Host, Content-Length, Expect\nContent-Length=2\n"},
		{"aliases frame nothing", post("Content_Length: 5\r\nTransfer.Encoding: chunked\r\n"), "POST / false\"\" 1.1 host=a.com 0/0 keep\nHost=a.com\nContent_Length=5\nTransfer.Encoding=chunked\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, n, why := parse(t, c.head+"GARBAGE\x00\n")
			if n != len(c.head) || why != 0 {
				t.Fatalf("%d, %v, want %d", n, why, len(c.head))
			}
			if diff := cmp.Diff(c.want, reading(req)); diff != "" {
				t.Fatalf("reading (-want +got):\n%s", diff)
			}
			for at := range len(c.head) {
				req, n, why := parseSplit(t, c.head, at)
				if n != len(c.head) || why != 0 || reading(req) != c.want {
					t.Fatalf("split at %d: %d, %v\n%s", at, n, why, reading(req))
				}
			}
			if req, n, why := parseSlowly(t, c.head); n != len(c.head) || why != 0 || reading(req) != c.want {
				t.Fatalf("byte by byte: %d, %v\n%s", n, why, reading(req))
			}
		})
	}
}

// TestLimitsAreExact: the last byte within a limit is let through, and nothing
// beyond the limit of the head is looked at.
func TestLimitsAreExact(t *testing.T) {
	rules := Rules{MaxHead: 200, MaxTarget: 20, MaxLines: 3}
	for _, c := range []struct {
		name, head string
		want       Reason
	}{
		{"target", get("/"+strings.Repeat("x", 19), ""), 0},
		{"target + 1", get("/"+strings.Repeat("x", 20), ""), TargetTooLong},
		{"lines", get("/", "A: 1\r\nB: 2\r\n"), 0},
		{"lines + 1", get("/", "A: 1\r\nB: 2\r\nC: 3\r\n"), TooManyLines},
		{"head", get("/", "A: "+strings.Repeat("x", 200-len(get("/", "A: \r\n")))+"\r\n"), 0},
		{"head + 1", get("/", "A: "+strings.Repeat("x", 201-len(get("/", "A: \r\n")))+"\r\n"), HeadTooLarge},
		{"nonsense behind the limit", get("/", "A: "+strings.Repeat("x", 300)+"\x00"), HeadTooLarge},
	} {
		for at := range len(c.head) {
			req := new(Request)
			req.Reset()
			n, why := req.Parse([]byte(c.head[:at]), &rules)
			if n == 0 && why == 0 {
				n, why = req.Parse([]byte(c.head), &rules)
			}
			if why != c.want || why == 0 && n != len(c.head) {
				t.Errorf("%s, split at %d: %d, %v, want %v", c.name, at, n, why, c.want)
			}
		}
	}
}

// TestLogsOfTheRefused: what was read can be shown, whatever was wrong.
func TestLogsOfTheRefused(t *testing.T) {
	req, _, why := parse(t, "HEAD /a%2f HTTP/1.1\r\nHost: a.com\r\n\r\n")
	if why != BadPath || string(req.Method()) != "HEAD" || req.Kind() != MethodHead || string(req.Target()) != "/a%2f" || string(req.Host()) != "a.com" {
		t.Errorf("%v: %s %v %s %s", why, req.Method(), req.Kind(), req.Target(), req.Host())
	}
	if req, _, _ = parse(t, "\x16\x03"); len(req.Method())+len(req.Target())+len(req.Host())+len(req.Path()) != 0 {
		t.Errorf("something of nothing: %q %q %q %q", req.Method(), req.Target(), req.Host(), req.Path())
	}
}

// TestPipeline: what follows a head is left alone.
func TestPipeline(t *testing.T) {
	wire := []byte(get("/1", "") + get("/2", "") + post("Content-Length: 3\r\n") + "abc" + get("/3", ""))
	req, rules := new(Request), DefaultRules()
	var got []string
	for len(wire) > 0 {
		req.Reset()
		n, why := req.Parse(wire, &rules)
		if n == 0 {
			t.Fatal(why)
		}
		wire = wire[n:]
		body := req.Body()
		skip, payload, why := body.Next(wire)
		if why != 0 || !body.Done() {
			t.Fatal(skip, payload, why)
		}
		got = append(got, fmt.Sprintf("%s %s %s", req.Method(), req.Path(), wire[skip:skip+payload]))
		wire = wire[skip+payload:]
	}
	if diff := cmp.Diff([]string{"GET /1 ", "GET /2 ", "POST / abc", "GET /3 "}, got); diff != "" {
		t.Error(diff)
	}
}

func TestKnownNames(t *testing.T) {
	for k := 1; k < NumKnown; k++ {
		for _, name := range []string{names[k], strings.ToLower(names[k]), strings.ToUpper(names[k])} {
			if got := lookup([]byte(name)); got != Known(k) {
				t.Errorf("lookup(%s) = %v", name, got)
			}
		}
		for i := range names[k] {
			for _, c := range []byte("^~_x0\x7f-") {
				other := []byte(names[k])
				if other[i] == c || other[i]|0x20 == c {
					continue
				}
				other[i] = c
				if got := lookup(other); got != 0 && !strings.EqualFold(names[got], string(other)) {
					t.Errorf("lookup(%q) = %v", other, got)
				}
			}
		}
		if got := lookup([]byte(names[k] + "x")); got == Known(k) {
			t.Errorf("lookup(%sx) = %v", names[k], got)
		}
	}
}
