package http1

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parseAnswer(head string, asked Asked, at int) (*Response, int, Reason) {
	res := new(Response)
	res.Reset()
	n, why := res.Parse([]byte(head[:at]), DefaultAnswerHead, asked)
	if n == 0 && why == 0 {
		n, why = res.Parse([]byte(head), DefaultAnswerHead, asked)
	}
	return res, n, why
}

func answerReading(r *Response) string {
	var b strings.Builder
	fmt.Fprintf(&b, "1.%d %d %q %v/%d", r.Minor(), r.Status(), r.Phrase(), r.Framing(), r.ContentLength())
	if r.Reusable() {
		b.WriteString(" reusable")
	}
	if r.Interim() {
		b.WriteString(" interim")
	}
	b.WriteByte('\n')
	for i := range r.Len() {
		if !r.Hop(i) {
			fmt.Fprintf(&b, "%s=%s\n", r.Name(i), r.Value(i))
		}
	}
	return b.String()
}

func TestAnswers(t *testing.T) {
	head, ws := Asked{Head: true}, Asked{WebSocket: true}
	for _, c := range []struct {
		name, head string
		asked      Asked
		want       string
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Asked{}, "1.1 200 \"OK\" 1/5 reusable\nContent-Length=5\n"},
		{"no content", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Asked{}, "1.1 200 \"OK\" 0/0 reusable\nContent-Length=0\n"},
		{"the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Asked{}, "1.1 200 \"OK\" 1/5 reusable\nContent-Length=5\nContent-Length=5\n"},
		{"leading zeros", "HTTP/1.1 200 OK\r\nContent-Length: 005\r\n\r\n", Asked{}, "1.1 200 \"OK\" 1/5 reusable\nContent-Length=005\n"},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Asked{}, "1.1 200 \"OK\" 2/-1 reusable\n"},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", Asked{}, "1.1 200 \"OK\" 3/-1\n"},
		{"until close, 1.0", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", Asked{}, "1.0 200 \"OK\" 3/-1\n"},
		{"1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Asked{}, "1.0 200 \"OK\" 1/5\nContent-Length=5\n"},
		{"1.0 kept", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", Asked{}, "1.0 200 \"OK\" 1/5 reusable\nContent-Length=5\n"},
		{"close", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n", Asked{}, "1.1 200 \"OK\" 1/5\nContent-Length=5\n"},
		{"no phrase", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", Asked{}, "1.1 200 \"\" 1/5 reusable\nContent-Length=5\n"},
		{"empty phrase", "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n", Asked{}, "1.1 200 \"\" 1/5 reusable\nContent-Length=5\n"},
		{"long phrase", "HTTP/1.1 404 n\xc3\xb6t\thing here\r\nContent-Length: 5\r\n\r\n", Asked{}, "1.1 404 \"nöt\\thing here\" 1/5 reusable\nContent-Length=5\n"},
		{"status of nobody", "HTTP/1.1 999 X\r\nContent-Length: 5\r\n\r\n", Asked{}, "1.1 999 \"X\" 1/5 reusable\nContent-Length=5\n"},
		{"HEAD with length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head, "1.1 200 \"OK\" 0/5 reusable\nContent-Length=5\n"},
		{"HEAD chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head, "1.1 200 \"OK\" 0/-1 reusable\n"},
		{"HEAD", "HTTP/1.1 200 OK\r\n\r\n", head, "1.1 200 \"OK\" 0/-1 reusable\n"},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", Asked{}, "1.1 204 \"No Content\" 0/-1 reusable\n"},
		{"204 length 0", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Asked{}, "1.1 204 \"No Content\" 0/-1 reusable\nContent-Length=0\n"},
		{"204 with length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Asked{}, "1.1 204 \"No Content\" 0/-1\nContent-Length=5\n"},
		{"204 chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Asked{}, "1.1 204 \"No Content\" 0/-1\n"},
		{"304 with length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Asked{}, "1.1 304 \"Not Modified\" 0/5 reusable\nContent-Length=5\n"},
		{"100", "HTTP/1.1 100 Continue\r\n\r\n", Asked{}, "1.1 100 \"Continue\" 0/-1 reusable interim\n"},
		{"103", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Asked{}, "1.1 103 \"Early Hints\" 0/-1 reusable interim\nLink=x\n"},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ws, "1.1 101 \"Switching Protocols\" 0/-1\n"},
		{"options", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: X-A, Content-Length\r\nX-A: 1\r\nKeep-Alive: x\r\nProxy-Authenticate: x\r\n\r\n", Asked{}, "1.1 200 \"OK\" 1/5 reusable\nContent-Length=5\n"},
		{"malformed options", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive;x\r\n\r\n", Asked{}, "1.1 200 \"OK\" 1/5\nContent-Length=5\n"},
	} {
		for at := range len(c.head) + 1 {
			res, n, why := parseAnswer(c.head+"X\x00\n", c.asked, at)
			if n != len(c.head) || why != 0 {
				t.Errorf("%s, split at %d: %d, %v", c.name, at, n, why)
				break
			}
			if diff := cmp.Diff(c.want, answerReading(res)); diff != "" {
				t.Errorf("%s, split at %d (-want +got):\n%s", c.name, at, diff)
				break
			}
		}
	}
}

func TestRefusedAnswers(t *testing.T) {
	ok := func(rest string) string { return "HTTP/1.1 200 OK\r\n" + rest + "\r\n" }
	upgrade := func(rest string) string { return "HTTP/1.1 101 Switching Protocols\r\n" + rest + "\r\n" }
	ws := Asked{WebSocket: true}
	for _, c := range []struct {
		name, head string
		asked      Asked
		want       Reason
	}{
		{"garbage", "garbage\r\n\r\n", Asked{}, BadStatus},
		{"HTTP/0.9", "<html>hello</html>", Asked{}, BadStatus},
		{"empty line first", "\r\n" + ok(""), Asked{}, BadStatus},
		{"space first", " " + ok(""), Asked{}, BadStatus},
		{"small letters", "http/1.1 200 OK\r\n\r\n", Asked{}, BadStatus},
		{"HTTP/1.2", "HTTP/1.2 200 OK\r\n\r\n", Asked{}, BadStatus},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", Asked{}, BadStatus},
		{"HTTP/2", "HTTP/2 200 OK\r\n\r\n", Asked{}, BadStatus},
		{"ICY", "ICY 200 OK\r\n\r\n", Asked{}, BadStatus},
		{"no status", "HTTP/1.1 \r\n\r\n", Asked{}, BadStatus},
		{"two digits", "HTTP/1.1 20 OK\r\n\r\n", Asked{}, BadStatus},
		{"four digits", "HTTP/1.1 1000 OK\r\n\r\n", Asked{}, BadStatus},
		{"below 100", "HTTP/1.1 099 OK\r\n\r\n", Asked{}, BadStatus},
		{"negative", "HTTP/1.1 -20 OK\r\n\r\n", Asked{}, BadStatus},
		{"letters", "HTTP/1.1 2x0 OK\r\n\r\n", Asked{}, BadStatus},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", Asked{}, BadStatus},
		{"tab", "HTTP/1.1 200\tOK\r\n\r\n", Asked{}, BadStatus},
		{"control byte in the phrase", "HTTP/1.1 200 O\x01K\r\n\r\n", Asked{}, BadValue},
		{"CR in the phrase", "HTTP/1.1 200 O\rK\r\n\r\n", Asked{}, BareCR},
		{"LF behind the phrase", "HTTP/1.1 200 OK\n\n", Asked{}, BareLF},
		{"LF behind the status", "HTTP/1.1 200\n\n", Asked{}, BadStatus},
		{"no colon", ok("nonsense\r\n"), Asked{}, NoColon},
		{"no colon, words", ok("some nonsense\r\n"), Asked{}, SpaceBeforeColon},
		{"space before the colon", ok("X : 1\r\n"), Asked{}, SpaceBeforeColon},
		{"no name", ok(": 1\r\n"), Asked{}, BadName},
		{"obs-fold", ok("X: 1\r\n 2\r\n"), Asked{}, Fold},
		{"NUL in a value", ok("X: a\x00b\r\n"), Asked{}, BadValue},
		{"control byte in a value", ok("X: a\x1bb\r\n"), Asked{}, BadValue},
		{"CR in a value", ok("X: a\rSet-Cookie: x\r\n"), Asked{}, BareCR},
		{"LF in a value", ok("X: a\nSet-Cookie: x\r\n"), Asked{}, BareLF},
		{"length and coding", ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Asked{}, LengthAndCoding},
		{"two lengths", ok("Content-Length: 5\r\nContent-Length: 6\r\n"), Asked{}, BadLength},
		{"list of lengths", ok("Content-Length: 5, 5\r\n"), Asked{}, BadLength},
		{"negative length", ok("Content-Length: -5\r\n"), Asked{}, BadLength},
		{"empty length", ok("Content-Length:\r\n"), Asked{}, BadLength},
		{"large length", ok("Content-Length: 99999999999999999999\r\n"), Asked{}, BadLength},
		{"bad length for HEAD", ok("Content-Length: x\r\n"), Asked{Head: true}, BadLength},
		{"gzip, chunked", ok("Transfer-Encoding: gzip, chunked\r\n"), Asked{}, BadCoding},
		{"identity", ok("Transfer-Encoding: identity\r\n"), Asked{}, BadCoding},
		{"two codings", ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Asked{}, BadCoding},
		{"coding on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Asked{}, CodingOn10},
		{"100 with length", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", Asked{}, LengthAndCoding},
		{"103 chunked", "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n", Asked{}, LengthAndCoding},
		{"101 unasked", upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n"), Asked{}, UnaskedUpgrade},
		{"101 to something else", upgrade("Connection: Upgrade\r\nUpgrade: h2c\r\n"), ws, UnaskedUpgrade},
		{"101 to nothing", upgrade("Connection: Upgrade\r\n"), ws, UnaskedUpgrade},
		{"101 without option", upgrade("Upgrade: websocket\r\n"), ws, UnaskedUpgrade},
		{"many lines", ok(strings.Repeat("X: 1\r\n", 129)), Asked{}, TooManyLines},
		{"large head", ok("X: " + strings.Repeat("x", 70<<10) + "\r\n"), Asked{}, HeadTooLarge},
		{"large head without end", "HTTP/1.1 200 " + strings.Repeat("x", 70<<10), Asked{}, HeadTooLarge},
	} {
		for at := 0; at <= len(c.head); at += 1 + len(c.head)/1000 {
			if _, n, why := parseAnswer(c.head, c.asked, at); n != 0 || why != c.want {
				t.Errorf("%s, split at %d: %d, %v, want %v", c.name, at, n, why, c.want)
				break
			}
		}
	}
}
