package middleware

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Hashes of "secret"; apr1 and MD5 as openssl passwd writes them.
const (
	bcryptSecret = "$2a$05$N7Tu48/dMSkQXJDglRORBeVfAUbUcbbaXMSmEBBnXjghZVnBcSQSC"
	apr1Secret   = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"
	md5Secret    = "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1"
	shaSecret    = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
)

func TestBasicAuth(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("# people\n\nboth:"+shaSecret+"\n  infile:"+bcryptSecret+"  \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	users := map[string]string{
		"a2a": bcryptSecret, "a2b": strings.Replace(bcryptSecret, "2a", "2b", 1), "a2x": strings.Replace(bcryptSecret, "2a", "2x", 1),
		"a2y": strings.Replace(bcryptSecret, "2a", "2y", 1), "apr": apr1Secret, "md5": md5Secret, "sha": shaSecret,
		"both": strings.Replace(apr1Secret, "h9F", "xxx", 1), // the file wins
	}
	var lines []string
	for name, hash := range users {
		lines = append(lines, `"`+name+":"+hash+`"`)
	}
	m := mustDeclare(t, "basicAuth", "users = ["+strings.Join(lines, ", ")+"]\nusersFile = \""+file+
		"\"\nrealm = 'a \"realm\"'\nheaderField = \"x-user\"\nremoveHeader = true")
	ask := func(user, password string) (*httptest.ResponseRecorder, *http.Request) {
		r := httptest.NewRequest("GET", "/", nil)
		r = r.WithContext(WithRecord(r.Context(), new(Record)))
		r.Header.Set("X-User", "forged")
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		return serve(m, r, nil)
	}
	for name := range users {
		for range 2 { // the second time from memory
			w, seen := ask(name, "secret")
			if w.Code != 200 {
				t.Errorf("%s: right password got %d", name, w.Code)
				continue
			}
			if got := seen.Header.Get("X-User"); got != name {
				t.Errorf("%s: server was told %q", name, got)
			}
			if seen.Header.Get("Authorization") != "" {
				t.Errorf("%s: the password went on to the server", name)
			}
			if got := RecordFrom(seen.Context()).User; got != name {
				t.Errorf("%s: the log was told %q", name, got)
			}
			if w, _ := ask(name, "Secret"); w.Code != 401 {
				t.Errorf("%s: wrong password got %d", name, w.Code)
			}
		}
	}
	if w, _ := ask("infile", "secret"); w.Code != 200 {
		t.Errorf("user of the file got %d", w.Code)
	}
	for _, c := range [][2]string{{"", ""}, {"nobody", "secret"}, {"sha", ""}, {"SHA", "secret"}} {
		w, seen := ask(c[0], c[1])
		if w.Code != 401 || seen != nil || w.Header().Get("WWW-Authenticate") != `Basic realm="a \"realm\""` {
			t.Errorf("%q got %d %v", c, w.Code, w.Header())
		}
	}
}

func TestUsersFileProblemsNameTheLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("a:"+apr1Secret+"\nb:plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, problems := declare(t, "basicAuth", `usersFile = "`+file+`"`)
	if m.Wrap != nil || len(problems) != 1 || !strings.HasPrefix(problems[0].String(), file+":2: ") {
		t.Errorf("got %v, want one problem at %s:2", problems, file)
	}
}

// TestPasswordMemory: right passwords are remembered for a bounded time,
// wrong ones never, and unknown users are compared like known ones.
func TestPasswordMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checks := 0
		hash := func(password string) bool { checks++; return password == "right" }
		d := newPasswordDoor(map[string]passwordHash{"u": hash})
		for _, c := range []struct {
			user, password string
			opens          bool
			checks         int
		}{
			{"u", "right", true, 1}, {"u", "right", true, 1}, {"u", "wrong", false, 2}, {"u", "wrong", false, 3},
			{"x", "right", false, 4}, {"x", "right", false, 5}, {"ur", "ight", false, 6},
		} {
			if got := d.opens(t.Context(), c.user, c.password); got != c.opens || checks != c.checks {
				t.Errorf("%s:%s opens %v after %d checks, want %v after %d", c.user, c.password, got, checks, c.opens, c.checks)
			}
		}
		time.Sleep(rememberFor)
		if !d.opens(t.Context(), "u", "right") || checks != 7 {
			t.Errorf("%d checks, want another one when the memory is old", checks)
		}
		for i := range 2 * rememberMost {
			d.remember(d.digest("u", strings.Repeat("x", i)), time.Now())
		}
		if len(d.right) > rememberMost {
			t.Errorf("%d passwords are remembered, want at most %d", len(d.right), rememberMost)
		}
	})
}

// TestGuessingWaitsItsTurn: a client that goes away frees nothing it had not.
func TestGuessingWaitsItsTurn(t *testing.T) {
	d := newPasswordDoor(map[string]passwordHash{"u": func(string) bool { return true }})
	for range cap(d.slots) {
		d.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d.opens(ctx, "u", "right") {
		t.Error("opened without a check")
	}
	<-d.slots
	if !d.opens(t.Context(), "u", "right") {
		t.Error("did not open with a free slot")
	}
}

// FuzzParseUser: no line panics, and none is taken that does not have exactly
// one colon and a known kind of hash.
func FuzzParseUser(f *testing.F) {
	for _, hash := range []string{bcryptSecret, apr1Secret, md5Secret, shaSecret, "plain", "$2y$", "$apr1$$", "$1$x$y", "{SHA}!"} {
		f.Add("user:" + hash)
	}
	f.Add("a:b:c")
	f.Fuzz(func(t *testing.T, line string) {
		name, hash, err := parseUser(line)
		if err != nil {
			if _, text, _ := strings.Cut(line, ":"); len(text) > 8 && strings.Contains(err.Error(), text) {
				t.Errorf("error shows the hash: %v", err)
			}
			return
		}
		if name == "" || strings.Count(line, ":") != 1 {
			t.Errorf("%q was taken", line)
		}
		// A high cost would only make the fuzzer slow.
		if text := strings.TrimSpace(line[len(name)+1:]); !strings.Contains(text, "$2") && hash("") && hash("x") {
			t.Errorf("%q opens for everybody", line)
		}
	})
}

func BenchmarkBasicAuth(b *testing.B) {
	h := mustDeclare(b, "basicAuth", `users = ["u:`+bcryptSecret+`"]`).Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth("u", "secret")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
	if w.Code != 200 {
		b.Fatal(w.Code)
	}
}
