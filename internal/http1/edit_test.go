package http1

import (
	"fmt"
	"strings"
	"testing"
)

func TestNewEditRefusesWhatWritersMake(t *testing.T) {
	for _, name := range []string{"Host", "connection", "Content-Length", "Transfer-Encoding", "Upgrade", "TE", "Trailer", "Expect",
		"Keep-Alive", "Proxy-Authorization", "HTTP2-Settings", "Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Tls",
		"X-Real-IP", "Alt-Svc", "X_Odd", "x.odd", "", "no token"} {
		if _, ok := NewEdit(name, "x"); ok {
			t.Errorf("%q may be edited", name)
		}
	}
	for _, name := range []string{"X-Custom", "Cookie", "Set-Cookie", "Authorization", "Date", "Content-Type", "Server", "x-frame-options"} {
		if _, ok := NewEdit(name, "x"); !ok {
			t.Errorf("%q may not be edited", name)
		}
	}
}

func mustEdit(t testing.TB, name, value string) *Edit {
	e, ok := NewEdit(name, value)
	if !ok {
		t.Fatalf("%q may not be edited", name)
	}
	return &e
}

const editedRequest = "GET /a/b?c HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nCookie: x\r\nx-a: 2\r\nX-Forwarded-Prefix: /client\r\nConnection: X-B\r\nX-B: 3\r\nCookie: y\r\n\r\n"

func parseEdited(t testing.TB, text string) *Request {
	r, rules := new(Request), DefaultRules()
	r.Reset()
	if n, why := r.Parse([]byte(text), &rules); n != len(text) {
		t.Fatal(n, why)
	}
	return r
}

func TestEditsOfRequests(t *testing.T) {
	ours := "X-Forwarded-For: 10.0.0.1\r\nX-Real-Ip: 10.0.0.1\r\nX-Forwarded-Host: h\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Proto: http\r\n"
	for _, trusted := range []bool{false, true} {
		client := NewClient("10.0.0.1", trusted, false)
		r := parseEdited(t, editedRequest)
		before := string(AppendRequest(nil, r, &Onward{Client: &client}))
		r.BeginEdits(make([]byte, 8)) // too small: it grows
		for _, e := range []*Edit{mustEdit(t, "X-A", "new\r\nline"), mustEdit(t, "Cookie", ""), mustEdit(t, "X-B", "ours"), mustEdit(t, "Cookie", "z")} {
			if !r.Edit(e) {
				t.Fatal("no room")
			}
		}
		if !r.Add("X-Forwarded-Prefix", "/a", &client) {
			t.Fatal("no room")
		}
		r.EditPath("/b")
		want := "GET /b?c HTTP/1.1\r\nHost: h\r\nX-A: new  line\r\nX-B: ours\r\nCookie: z\r\nX-Forwarded-Prefix: /a\r\n" + ours
		if trusted {
			want = "GET /b?c HTTP/1.1\r\nHost: h\r\nX-A: new  line\r\nX-B: ours\r\nCookie: z\r\nX-Forwarded-Prefix: /client\r\nX-Forwarded-Prefix: /a\r\n" + ours
		}
		if got := string(AppendRequest(nil, r, &Onward{Client: &client})); got != want {
			t.Errorf("trusted %v:\n%s\nwant\n%s", trusted, got, want)
		}
		onward := &Onward{Client: &client}
		if a, c := r.Passed("x-A", onward), r.Get(Cookie); string(a) != "new  line" || string(c) != "z" {
			t.Errorf("X-A %q, Cookie %q", a, c)
		}
		r.Undo()
		r.Undo() // again changes nothing
		if got := string(AppendRequest(nil, r, onward)); got != before || string(r.Get(Cookie)) != "x" || !r.several(Cookie) {
			t.Errorf("undone:\n%s\nwant\n%s", got, before)
		}
	}
}

// TestEditsBeyondTheRoom: a head that is full takes no more, and says so.
func TestEditsBeyondTheRoom(t *testing.T) {
	var text strings.Builder
	text.WriteString("GET / HTTP/1.1\r\nHost: h\r\n")
	for i := 1; i < MaxLines; i++ {
		fmt.Fprintf(&text, "X-%d: y\r\n", i)
	}
	r := parseEdited(t, text.String()+"\r\n")
	r.BeginEdits(nil)
	for i := range MaxEdits {
		if !r.Edit(mustEdit(t, fmt.Sprintf("Y-%d", i), "z")) {
			t.Fatalf("edit %d: no room", i)
		}
	}
	if r.Edit(mustEdit(t, "Y", "z")) || !r.Edit(mustEdit(t, "X-1", "")) {
		t.Error("a line too many was taken, or none could be taken away")
	}
	if r.Undo(); r.Len() != MaxLines {
		t.Errorf("%d lines after Undo", r.Len())
	}
}

func TestEditsOfAnswers(t *testing.T) {
	const text = "HTTP/1.1 200 OK\r\nServer: s\r\nSet-Cookie: a\r\nDate: then\r\nset-cookie: b\r\nX: y\r\nContent-Length: 3\r\n\r\nabc"
	var r Response
	r.Reset()
	if n, why := r.Parse([]byte(text), len(text), Asked{}); n == 0 {
		t.Fatal(why)
	}
	room := make([]byte, 1<<10)
	outer := []Edit{*mustEdit(t, "X", "outer"), *mustEdit(t, "Date", "")}
	inner := []Edit{*mustEdit(t, "X", "inner"), *mustEdit(t, "Set-Cookie", "c"), *mustEdit(t, "Server", "")}
	r.Edit(room, [][]Edit{outer, inner})
	want := "HTTP/1.1 200 OK\r\nSet-Cookie: c\r\nX: outer\r\nDate: now\r\nContent-Length: 3\r\n"
	if got := string(AppendResponse(nil, &r, Reply{Minor: 1, Date: []byte("now")})); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestProtoAsItGoesOn(t *testing.T) {
	for _, c := range []struct {
		said         string
		trusted, tls bool
		want         string
	}{{"https", false, false, "http"}, {"https", true, false, "https"}, {"gopher", true, true, "https"}, {"", true, false, "http"}} {
		client := NewClient("10.0.0.1", c.trusted, c.tls)
		r := parseEdited(t, "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: "+c.said+"\r\n\r\n")
		if got := string(r.Proto(&client)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func BenchmarkEdits(b *testing.B) {
	r, room := parseEdited(b, editedRequest), make([]byte, 4<<10)
	set, away := mustEdit(b, "X-A", "new"), mustEdit(b, "Cookie", "")
	b.ReportAllocs()
	for b.Loop() {
		r.BeginEdits(room)
		r.Edit(set)
		r.Edit(away)
		r.Undo()
	}
}
