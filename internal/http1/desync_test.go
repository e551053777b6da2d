package http1

import (
	"fmt"
	"strings"
	"testing"
)

// framingLines are the lines of a head that a lenient server might take for
// framing: '_' and '.' for '-', whatever is no token left out.
func framingLines(head string) (found []string) {
	for line := range strings.FieldsFuncSeq(head, func(r rune) bool { return r == '\r' || r == '\n' }) {
		name, _, _ := strings.Cut(line, ":")
		var letters []byte
		for _, c := range []byte(name) {
			switch {
			case c == '_' || c == '.':
				letters = append(letters, '-')
			case class[c]&inToken != 0:
				letters = append(letters, lower(c))
			}
		}
		if n := string(letters); n == "transfer-encoding" || n == "content-length" {
			found = append(found, line)
		}
	}
	return found
}

// TestNoSecondReading puts every byte into every place of a framing line, alone
// and beside another one. Whatever is let through goes on with one framing
// line, our own, or with none.
func TestNoSecondReading(t *testing.T) {
	client := NewClient("192.0.2.1", false, false)
	accepted, refused := 0, 0
	check := func(what, head string) {
		req, n, why := parse(t, head)
		if n == 0 {
			if why == 0 {
				t.Fatalf("%s: waits for more of %q", what, head)
			}
			refused++
			return
		}
		accepted++
		var want []string
		switch {
		case req.Framing() == Chunked:
			want = []string{"Transfer-Encoding: chunked"}
		case req.Has(ContentLength):
			want = []string{fmt.Sprintf("Content-Length: %d", req.ContentLength())}
		}
		for _, keep := range []bool{false, true} {
			onward := string(AppendRequest(nil, req, &Onward{Client: &client, KeepOdd: keep}))
			if got := framingLines(onward); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: sent on with %q, want %q", what, got, want)
			}
		}
	}
	for _, line := range []string{"Transfer-Encoding: chunked", "Content-Length: 5"} {
		for _, beside := range []string{"", "Content-Length: 6\r\n", "Transfer-Encoding: chunked\r\n"} {
			for at := range len(line) + 1 {
				for c := range 256 {
					inserted := line[:at] + string([]byte{byte(c)}) + line[at:]
					what := fmt.Sprintf("%q beside %q", inserted, beside)
					check(what, "POST / HTTP/1.1\r\nHost: a.com\r\n"+beside+inserted+"\r\n\r\n")
					check(what+" after", "POST / HTTP/1.1\r\nHost: a.com\r\n"+inserted+"\r\n"+beside+"\r\n")
					if at < len(line) {
						replaced := line[:at] + string([]byte{byte(c)}) + line[at+1:]
						check(fmt.Sprintf("%q beside %q", replaced, beside), "POST / HTTP/1.1\r\nHost: a.com\r\n"+beside+replaced+"\r\n\r\n")
					}
				}
			}
		}
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
}
