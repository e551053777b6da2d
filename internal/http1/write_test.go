package http1

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRequestOnward sends heads through and compares what the origin gets,
// byte for byte.
func TestRequestOnward(t *testing.T) {
	const own = "X-Forwarded-For: 127.0.0.1\r\nX-Real-Ip: 127.0.0.1\r\nX-Forwarded-Host: a.com\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Proto: http\r\n"
	const line = "GET / HTTP/1.1\r\nHost: a.com\r\n"
	plain, believed := NewClient("127.0.0.1", false, false), NewClient("127.0.0.1", true, false)
	for _, c := range []struct {
		name, rest string
		onward     Onward
		want       string
	}{
		{"nothing", "", Onward{Client: &plain}, own},
		{"plain fields", "A: 1\r\nb: 2\r\nC: x\ty\xff\r\n", Onward{Client: &plain}, "A: 1\r\nb: 2\r\nC: x\ty\xff\r\n" + own},
		{"loose fields", "A: 1\r\nB:2\r\nC:\t 3 \r\nD:\r\nE: 5\r\n", Onward{Client: &plain}, "A: 1\r\nB: 2\r\nC: 3\r\nD: \r\nE: 5\r\n" + own},
		{"hop by hop", "A: 1\r\nConnection: close, X-Mine, X-Forwarded-For, X-Real-Ip, Host\r\nX-Mine: 1\r\nx-mine: 2\r\nKeep-Alive: x\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nproxy-authenticate: x\r\nHTTP2-Settings: x\r\nUpgrade: h2c\r\nTE: gzip\r\nTrailer: x\r\nB: 2\r\n",
			Onward{Client: &plain}, "A: 1\r\nB: 2\r\n" + own},
		{"forwarded, canonical", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Real-Ip: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Server: x\r\nX-Forwarded-Tls-Client-Cert: x\r\nX-Forwarded: x\r\n",
			Onward{Client: &plain}, own},
		{"forwarded, case", "x-forwarded-for: 6.6.6.6\r\nX-FORWARDED-PROTO: https\r\nx-real-IP: 6.6.6.6\r\nfORWARDED: for=x\r\nx-FORWARDED-anything-at-all-however-long-the-name-may-be: x\r\n", Onward{Client: &plain}, own},
		{"forwarded, aliases", "X_Forwarded_For: 6\r\nx-forwarded_proto: https\r\nX.Forwarded.Host: evil\r\nX_Real-IP: 6\r\nx_real_ip: 7\r\nX_Forwarded: 1\r\nx_forwarded_anything_at_all_however_long_the_name_may_be: 1\r\nHTTP_X: kept\r\n",
			Onward{Client: &plain, KeepOdd: true}, "HTTP_X: kept\r\n" + own},
		{"odd ones go by default", "X_User: root\r\nX.User: root\r\nX-User: me\r\n", Onward{Client: &plain}, "X-User: me\r\n" + own},
		{"protected ones always go", "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nHOST.: x\r\nAuthorization_: x\r\n", Onward{Client: &plain, KeepOdd: true}, "HOST.: x\r\nAuthorization_: x\r\n" + own},
		{"like forwarded, but not", "X-Forwardedfor: 1\r\nX-Forward: 1\r\nForwarded-For: 1\r\nX-Real: 1\r\n", Onward{Client: &plain}, "X-Forwardedfor: 1\r\nX-Forward: 1\r\nForwarded-For: 1\r\nX-Real: 1\r\n" + own},
		{"te", "TE: gzip, trailers\r\nConnection: TE\r\n", Onward{Client: &plain}, own + "Connection: TE\r\nTE: trailers\r\n"},
		{"websocket", "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n", Onward{Client: &plain},
			"Sec-WebSocket-Key: x\r\n" + strings.Replace(own, "Proto: http", "Proto: ws", 1) + "Connection: Upgrade\r\nUpgrade: websocket\r\n"},
		{"upgrade not asked for", "Upgrade: websocket\r\n", Onward{Client: &plain}, own},
		{"length", "Content-Length:  5\r\n", Onward{Client: &plain}, own + "Content-Length: 5\r\n"},
		{"length 0", "Content-Length: 0\r\n", Onward{Client: &plain}, own + "Content-Length: 0\r\n"},
		{"chunked", "transfer-encoding:CHUNKED\r\nTrailer: X-Sum\r\n", Onward{Client: &plain}, own + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n"},
		{"expect kept back", "Expect: 100-continue\r\nContent-Length: 1\r\n", Onward{Client: &plain}, own + "Content-Length: 1\r\n"},
		{"expect", "Expect: 100-Continue\r\nContent-Length: 1\r\n", Onward{Client: &plain, Expect: true}, own + "Content-Length: 1\r\nExpect: 100-continue\r\n"},
		{"expect of nothing", "Expect: 100-continue\r\n", Onward{Client: &plain, Expect: true}, own},
		{"trusted and silent", "", Onward{Client: &believed}, strings.Replace(own, "X-Real-Ip: 127.0.0.1\r\n", "", 1) + "X-Real-Ip: 127.0.0.1\r\n"},
		{"trusted", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b.com\r\nX-Forwarded-Port: 444\r\nX-Real-Ip: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Tls-Client-Cert: y\r\n", Onward{Client: &believed},
			"Forwarded: for=6.6.6.6\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Tls-Client-Cert: y\r\nX-Forwarded-For: 6.6.6.6, 7.7.7.7, 127.0.0.1\r\nForwarded: for=127.0.0.1;host=\"a.com\";proto=https\r\nX-Real-Ip: 6.6.6.6\r\nX-Forwarded-Host: b.com\r\nX-Forwarded-Port: 444\r\nX-Forwarded-Proto: https\r\n"},
		{"trusted, but odd spelling", "X_Forwarded_For: 6.6.6.6\r\n", Onward{Client: &believed, KeepOdd: true}, own},
		{"trusted nonsense", "X-Forwarded-Proto: javascript\r\nX-Forwarded-Host: a b\r\nX-Forwarded-Port: 99999\r\nX-Real-Ip: evil\r\n", Onward{Client: &believed}, own},
		{"trusted twice", "X-Forwarded-Host: b.com\r\nX-Forwarded-Host: c.com\r\nX-Real-Ip: 1.1.1.1\r\nX-Real-Ip: 2.2.2.2\r\n", Onward{Client: &believed}, own},
		{"trusted without port", "X-Forwarded-Proto: wss\r\n", Onward{Client: &believed}, strings.NewReplacer("80", "443", "Proto: http", "Proto: wss").Replace(own)},
		{"trusted, taken away by the client", "Connection: X-Forwarded-For, X-Forwarded-Proto\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n", Onward{Client: &believed}, own},
	} {
		req, _, why := parse(t, line+c.rest+"\r\n")
		if why != 0 {
			t.Errorf("%s: %v", c.name, why)
			continue
		}
		got := string(AppendEnd(AppendRequest([]byte("kept"), req, &c.onward)))
		if diff := cmp.Diff(sortedLines("kept"+line+c.want+"\r\n"), sortedLines(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// sortedLines keeps all lines in order but those the proxy speaks itself.
func sortedLines(head string) []string {
	var rest, own []string
	for l := range strings.SplitSeq(head, "\r\n") {
		if strings.HasPrefix(l, "X-Forwarded-") || strings.HasPrefix(l, "X-Real-Ip") {
			own = append(own, l)
			continue
		}
		rest = append(rest, l)
	}
	for i := range own {
		for j := i + 1; j < len(own); j++ {
			if own[j] < own[i] {
				own[i], own[j] = own[j], own[i]
			}
		}
	}
	return append(rest, own...)
}

// TestRequestLineOnward: what stands in the target goes on in one form, to the
// right host.
func TestRequestLineOnward(t *testing.T) {
	client := NewClient("2001:db8::1", false, true)
	for _, c := range []struct{ head, host, want string }{
		{get("http://A.com/a/../b%7e?x=/..", ""), "", "GET /b~?x=/.. HTTP/1.1\r\nHost: a.com\r\nX-Forwarded-For: 2001:db8::1\r\nX-Real-Ip: 2001:db8::1\r\nX-Forwarded-Host: a.com\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Proto: https\r\n"},
		{"OPTIONS http://a.com:8443 HTTP/1.0\r\nHost: a.com:8443\r\n\r\n", "10.0.0.1:80", "OPTIONS * HTTP/1.1\r\nHost: 10.0.0.1:80\r\nX-Forwarded-For: 2001:db8::1\r\nX-Real-Ip: 2001:db8::1\r\nX-Forwarded-Host: a.com:8443\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Proto: https\r\n"},
		{"\r\nGET /? HTTP/1.1\r\nHost: [::1]\r\n\r\n", "", "GET /? HTTP/1.1\r\nHost: [::1]\r\nX-Forwarded-For: 2001:db8::1\r\nX-Real-Ip: 2001:db8::1\r\nX-Forwarded-Host: [::1]\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Proto: https\r\n"},
	} {
		req, _, why := parse(t, c.head)
		if why != 0 {
			t.Fatal(why)
		}
		if diff := cmp.Diff(c.want, string(AppendRequest(nil, req, &Onward{Client: &client, Host: c.host}))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.head, diff)
		}
	}
}

func TestAnswerOnward(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	date := []byte("Mon, 23 Nov 2026 10:00:00 GMT")
	for _, c := range []struct {
		name, head string
		asked      Asked
		reply      Reply
		want       string
	}{
		{"length", ok + "A: 1\r\ncontent-length:05\r\nB:2\r\n", Asked{}, Reply{Minor: 1, Date: date}, ok + "A: 1\r\nB: 2\r\nDate: " + string(date) + "\r\nContent-Length: 5\r\n"},
		{"its own date", ok + "date: x\r\nContent-Length: 0\r\n", Asked{}, Reply{Minor: 1, Date: date}, ok + "date: x\r\nContent-Length: 0\r\n"},
		{"chunked", ok + "Transfer-Encoding: chunked\r\nTrailer: X\r\n", Asked{}, Reply{Minor: 1}, ok + "Transfer-Encoding: chunked\r\nTrailer: X\r\n"},
		{"chunked for 1.0", ok + "Transfer-Encoding: chunked\r\nTrailer: X\r\n", Asked{}, Reply{Minor: 0}, ok + "Connection: close\r\n"},
		{"until close", "HTTP/1.0 200 OK\r\nConnection: close\r\n", Asked{}, Reply{Minor: 1}, ok + "Transfer-Encoding: chunked\r\n"},
		{"until close for 1.0", ok, Asked{}, Reply{Minor: 0}, ok + "Connection: close\r\n"},
		{"length for 1.0", ok + "Content-Length: 5\r\n", Asked{}, Reply{Minor: 0}, ok + "Content-Length: 5\r\nConnection: keep-alive\r\n"},
		{"last answer", ok + "Content-Length: 5\r\nConnection: keep-alive\r\n", Asked{}, Reply{Minor: 1, Close: true}, ok + "Content-Length: 5\r\nConnection: close\r\n"},
		{"hop by hop", ok + "Content-Length: 5\r\nConnection: X-A\r\nX-A: 1\r\nKeep-Alive: x\r\nUpgrade: h2c\r\nProxy-Authenticate: x\r\nTE: x\r\nX_Odd: 1\r\n", Asked{}, Reply{Minor: 1}, ok + "X_Odd: 1\r\nContent-Length: 5\r\n"},
		{"HEAD", ok + "Content-Length: 5\r\n", Asked{Head: true}, Reply{Minor: 1}, ok + "Content-Length: 5\r\n"},
		{"HEAD chunked", ok + "Transfer-Encoding: chunked\r\n", Asked{Head: true}, Reply{Minor: 1}, ok},
		{"204", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", Asked{}, Reply{Minor: 1}, "HTTP/1.1 204 No Content\r\n"},
		{"304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: x\r\n", Asked{}, Reply{Minor: 1}, "HTTP/1.1 304 Not Modified\r\nEtag: x\r\nContent-Length: 5\r\n"},
		{"no phrase", "HTTP/1.1 404\r\nContent-Length: 0\r\n", Asked{}, Reply{Minor: 1}, "HTTP/1.1 404 \r\nContent-Length: 0\r\n"},
		{"own phrase", "HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n", Asked{}, Reply{Minor: 1}, "HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n"},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: close\r\n", Asked{}, Reply{Minor: 1, Date: date}, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n"},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n", Asked{WebSocket: true}, Reply{Minor: 1}, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"},
	} {
		res, _, why := parseAnswer(c.head+"\r\n", c.asked, 0)
		if why != 0 {
			t.Errorf("%s: %v", c.name, why)
			continue
		}
		if diff := cmp.Diff(c.want, string(AppendResponse(nil, res, c.reply))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestFieldsOfOthers(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"X-A", "b", "X-A: b\r\n"},
		{"X-A", "b\r\nX-B: c\x00\x7f", "X-A: b  X-B: c  \r\n"},
		{"X A", "b", ""},
		{"", "b", ""},
		{"X:\r\nY", "b", ""},
	} {
		if got := string(AppendField(nil, c.name, c.value)); got != c.want {
			t.Errorf("%q: %q: %q, want %q", c.name, c.value, got, c.want)
		}
	}
}

func TestRefusalAnswers(t *testing.T) {
	for why := Reason(1); int(why) < NumReasons; why++ {
		if why.Status() < 400 || why.Error() == "" {
			t.Errorf("reason %d: %d %q", why, why.Status(), why)
		}
		for _, method := range []string{"GET", "HEAD"} {
			wire := why.AppendRefusal(nil, []byte("Mon, 23 Nov 2026 10:00:00 GMT"), method == "HEAD")
			res, n, bad := parseAnswer(string(wire), Asked{Head: method == "HEAD"}, 0)
			if bad != 0 || res.Status() != why.Status() || res.Reusable() || method == "GET" && int64(len(wire)-n) != res.ContentLength() || method == "HEAD" && n != len(wire) {
				t.Errorf("%v for %s: %q", why, method, wire)
			}
			theirs, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(wire))), &http.Request{Method: method})
			if err != nil || !theirs.Close {
				t.Errorf("%v: %q: %v", why, wire, err)
			}
		}
	}
}

func TestTrailersOnward(t *testing.T) {
	tr := new(Trailers)
	tr.Reset()
	if n, why := tr.Parse([]byte("X-Sum:1\r\nCookie: x\r\nX_Y: 1\r\nX-Forwarded-For: 1\r\nGrpc-Status: 0\r\n\r\n")); n == 0 {
		t.Fatal(why)
	}
	if got, want := string(AppendLastChunk(nil, tr)), "0\r\nX-Sum: 1\r\nGrpc-Status: 0\r\n\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
