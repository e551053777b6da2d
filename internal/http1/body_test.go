package http1

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
)

// drain reads a whole body, n bytes of the wire at a time, as an engine with a
// small buffer would, and gives the content, the trailers and what is left.
func drain(b Body, wire string, n int) (content, trailers, rest string, why Reason) {
	var out strings.Builder
	var buf []byte
	t := new(Trailers)
	t.Reset()
	for {
		before, was := len(buf), b.state
		if b.InTrailers() {
			used, why := t.Parse(buf)
			if why != 0 {
				return out.String(), "", "", why
			}
			if used > 0 {
				for i := range t.Len() {
					trailers += fmt.Sprintf("%s=%s %v\n", t.Name(i), t.Value(i), t.Forwarded(i))
				}
				b.EndTrailers()
				buf = buf[used:]
			}
		} else {
			skip, payload, why := b.Next(buf)
			out.Write(buf[skip : skip+payload])
			if why != 0 {
				return out.String(), "", "", why
			}
			buf = buf[skip+payload:]
		}
		if b.Done() {
			return out.String(), trailers, string(buf) + wire, 0
		}
		if len(buf) != before || b.state != was {
			continue
		}
		if wire == "" {
			return out.String(), trailers, "", b.End()
		}
		step := min(n, len(wire))
		buf, wire = append(bytes.Clone(buf), wire[:step]...), wire[step:]
	}
}

func TestChunks(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct{ name, wire, content, trailers string }{
		{"empty", "0\r\n\r\n", "", ""},
		{"one", "5\r\nhello\r\n0\r\n\r\n", "hello", ""},
		{"several", "5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n", "hello world", ""},
		{"digits", "A\r\n0123456789\r\na\r\n0123456789\r\n00f\r\n0123456789abcde\r\n000\r\n\r\n", "012345678901234567890123456789abcde", ""},
		{"content like framing", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n", ""},
		{"large", "1388\r\n" + long + "\r\n0\r\n\r\n", long, ""},
		{"extensions", "5;a\r\nhello\r\n1;a=b;c=\"d\\\" ;e\tf\";g\r\n!\r\n0;last\r\n\r\n", "hello!", ""},
		{"trailers", "1\r\na\r\n0\r\nX-Sum: 1\r\nGrpc-Status:  0 \r\n\r\n", "a", "X-Sum=1 true\nGrpc-Status=0 true\n"},
		{"trailers to drop", "0\r\nCookie: a\r\nX-Forwarded-For: 1\r\nX_Odd: 1\r\nAuthorization: x\r\nContent-Type: y\r\nX-Real-Ip: 2\r\n\r\n",
			"", "Cookie=a false\nX-Forwarded-For=1 false\nX_Odd=1 false\nAuthorization=x false\nContent-Type=y false\nX-Real-Ip=2 false\n"},
	} {
		for n := 1; n <= len(c.wire)+1; n++ {
			if n > 40 && n < len(c.wire) {
				continue
			}
			content, trailers, rest, why := drain(newBody(Chunked, 0), c.wire+"NEXT", n)
			if why != 0 || content != c.content || trailers != c.trailers || rest != "NEXT" {
				t.Fatalf("%s, %d at a time: %q %q %q %v", c.name, n, content, trailers, rest, why)
			}
		}
	}
}

func TestBadChunks(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       Reason
	}{
		{"nothing", "", Truncated},
		{"no last chunk", "1\r\na\r\n", Truncated},
		{"no end", "1\r\na\r\n0\r\n", Truncated},
		{"short", "5\r\nabc", Truncated},
		{"half a trailer", "0\r\nX: 1\r\n", Truncated},
		{"no size", "\r\nabc", BadChunk},
		{"no digit", "g\r\n", BadChunk},
		{"0x", "0x5\r\nhello\r\n0\r\n\r\n", BadChunk},
		{"underscore", "1_0\r\n", BadChunk},
		{"sign", "+5\r\nhello", BadChunk},
		{"negative", "-1\r\n", BadChunk},
		{"space first", " 5\r\nhello", BadChunk},
		{"space behind", "5 \r\nhello", BadChunk},
		{"tab behind", "5\t\r\nhello", BadChunk},
		{"two sizes", "5,5\r\nhello", BadChunk},
		{"LF", "5\nhello\r\n", BareLF},
		{"CR", "5\rhello\r\n", BareCR},
		{"CR CR LF", "5\r\r\nhello\r\n", BareCR},
		{"LF behind the data", "5\r\nhello\n0\r\n\r\n", BadChunk},
		{"CR behind the data", "5\r\nhello\r0\r\n\r\n", BareCR},
		{"nothing behind the data", "5\r\nhello0\r\n\r\n", BadChunk},
		{"too much data", "5\r\nhello!!\r\n0\r\n\r\n", BadChunk},
		{"LF as the end", "0\r\n\n", BareLF},
		{"LF behind the last", "0\n\r\n", BareLF},
		{"CR as the end", "0\r\n\rx", BareCR},
		{"too large", "8000000000000000\r\n", ChunkTooLarge},
		{"far too large", "fffffffffffffffff\r\n", ChunkTooLarge},
		{"wraps to 5", "10000000000000005\r\nhello", ChunkTooLarge},
		{"many zeros", "00000000000000005\r\nhello", ChunkTooLarge},
		{"empty extension", "5;\r\nhello", BadChunk},
		{"two semicolons", "5;;a\r\nhello", BadChunk},
		{"extension without name", "5;=a\r\nhello", BadChunk},
		{"extension without value", "5;a=\r\nhello", BadChunk},
		{"space in an extension", "5; a\r\nhello", BadChunk},
		{"extension twice equal", "5;a=b=c\r\nhello", BadChunk},
		{"behind a quote", "5;a=\"b\"c\r\nhello", BadChunk},
		{"NUL in an extension", "5;a\x00\r\nhello", BadChunk},
		{"LF in an extension", "5;a\nhello", BareLF},
		{"CR in an extension", "5;a\rb\r\nhello", BareCR},
		{"LF in a quote", "5;a=\"b\nc\"\r\nhello", BareLF},
		{"CRLF in a quote", "5;a=\"b\r\n0\r\n\r\n", BareCR},
		{"NUL in a quote", "5;a=\"\x00\"\r\nhello", BadValue},
		{"escaped LF", "5;a=\"\\\n\"\r\nhello", BareLF},
		{"long extension", "5;" + strings.Repeat("a", 1025) + "\r\nhello", ExtensionTooLong},
		{"many extensions", strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\nx\r\n", 20) + "0\r\n\r\n", ExtensionTooLong},
		{"trailer: obs-fold", "0\r\nX: 1\r\n 2\r\n\r\n", Fold},
		{"trailer: LF", "0\r\nX: 1\n\r\n", BareLF},
		{"trailer: no colon", "0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", SpaceBeforeColon},
		{"trailer: NUL", "0\r\nX: \x00\r\n\r\n", BadValue},
		{"trailer: space first", "0\r\n X: 1\r\n\r\n", Fold},
		{"trailer: length", "0\r\nContent-Length: 5\r\n\r\n", BadTrailer},
		{"trailer: coding", "0\r\nTransfer-Encoding: chunked\r\n\r\n", BadTrailer},
		{"trailer: alias", "0\r\nTransfer_Encoding: chunked\r\n\r\n", BadTrailer},
		{"trailer: host", "0\r\nhost: evil\r\n\r\n", BadTrailer},
		{"trailer: connection", "0\r\nConnection: close\r\n\r\n", BadTrailer},
		{"trailers: many", "0\r\n" + strings.Repeat("X: 1\r\n", 129) + "\r\n", TooManyLines},
		{"trailers: large", "0\r\nX: " + strings.Repeat("x", 9000), TrailersTooLarge},
	} {
		for _, n := range []int{1, 2, 3, len(c.wire) + 1} {
			if _, _, _, why := drain(newBody(Chunked, 0), c.wire, n); why != c.want {
				t.Errorf("%s, %d at a time: %v, want %v", c.name, n, why, c.want)
			}
		}
	}
}

// TestExcusedExtensions: what signs large chunks may be long.
func TestExcusedExtensions(t *testing.T) {
	chunk := "400;sig=" + strings.Repeat("a", 200) + "\r\n" + strings.Repeat("x", 1024) + "\r\n"
	if content, _, _, why := drain(newBody(Chunked, 0), strings.Repeat(chunk, 300)+"0\r\n\r\n", 4096); why != 0 || len(content) != 300*1024 {
		t.Errorf("%d bytes, %v", len(content), why)
	}
}

func TestOtherBodies(t *testing.T) {
	for _, c := range []struct {
		name, wire    string
		body          Body
		content, rest string
		want          Reason
	}{
		{"none", "NEXT", newBody(NoBody, 0), "", "NEXT", 0},
		{"length", "helloNEXT", newBody(Length, 5), "hello", "NEXT", 0},
		{"short", "hell", newBody(Length, 5), "hell", "", Truncated},
		{"until close", "hello\r\n0\r\n\r\n", newBody(UntilClose, 0), "hello\r\n0\r\n\r\n", "", 0},
	} {
		for n := 1; n < 12; n++ {
			content, _, rest, why := drain(c.body, c.wire, n)
			if content != c.content || rest != c.rest || why != c.want {
				t.Errorf("%s, %d at a time: %q %q %v", c.name, n, content, rest, why)
			}
		}
	}
}

// TestAdvance: content moved without Next counts.
func TestAdvance(t *testing.T) {
	b := newBody(Chunked, 0)
	if skip, payload, why := b.Next([]byte("a\r\n")); skip != 3 || payload != 0 || why != 0 || b.Left() != 10 {
		t.Fatal(skip, payload, why, b.Left())
	}
	b.Advance(4)
	if skip, payload, _ := b.Next([]byte("xx")); skip != 0 || payload != 2 || b.Left() != 4 {
		t.Fatal(skip, payload, b.Left())
	}
	b.Advance(4)
	if skip, _, why := b.Next([]byte("\r\n0\r\n\r\n")); skip != 7 || why != 0 || !b.Done() || b.Left() != 0 {
		t.Fatal(skip, why, b.Done())
	}
}

// FuzzChunks: whatever the split, the reading is the same; what we accept
// net/http reads the same; and what we write of it is read back.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "5;a=\"b\"\r\nhello\r\n0\r\nX: 1\r\n\r\nNEXT", "a\r\n0123456789\r\n00\r\n\r\n"} {
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, wire string, n int) {
		content, trailers, rest, why := drain(newBody(Chunked, 0), wire, len(wire)+1)
		content2, trailers2, rest2, why2 := drain(newBody(Chunked, 0), wire, 1+(n&63))
		if content != content2 || trailers != trailers2 || rest != rest2 || why != why2 {
			t.Fatalf("%q %q %q %v whole, %q %q %q %v in parts", content, trailers, rest, why, content2, trailers2, rest2, why2)
		}
		if why != 0 {
			return
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(wire)))
		if string(theirs) != content || err != nil {
			t.Fatalf("net/http reads %q, %v; we read %q", theirs, err, content)
		}
		again := string(AppendLastChunk(AppendChunk(nil, []byte(content)), nil))
		if content3, _, _, why := drain(newBody(Chunked, 0), again, 7); content3 != content || why != 0 {
			t.Fatalf("wrote %q, read %q, %v", content, content3, why)
		}
	})
}
