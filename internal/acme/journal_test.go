package acme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

func fullJournal(t testing.TB) journal {
	key, err := newKey(EC256)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return journal{
		Version: 1, Directory: "https://ca/dir", Names: []string{"a.example.com", "*.example.com"}, Key: key, Profile: "short",
		Replaces: "x.y", Account: "https://ca/acct/1", Order: "https://ca/order/1", Finalized: true, Chain: []byte("pem"), Began: at,
		Challenges: []challenge{
			{Authorization: "https://ca/z/1", Name: "a.example.com", Type: dns01, URL: "u", Token: "t", Value: "v", Expires: at, State: chosen,
				Record: &storedRecord{Zone: "example.com", Name: "_acme-challenge.a.example.com", Value: "v", TTL: time.Minute}},
			{Authorization: "https://ca/z/2", Name: "b.example.com", Type: http01, URL: "u", Token: "t-_9", Value: "t-_9.th", State: presented},
		},
		Leftovers: []challenge{{Authorization: "https://ca/z/0", Name: "c.example.com", Type: tlsALPN01, URL: "u", Token: "t", Value: "d", State: told}},
	}
}

func TestJournalRoundTrip(t *testing.T) {
	want := fullJournal(t)
	raw, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeJournal(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	after := got.reset()
	if len(after.Leftovers) != 3 || len(after.Key) != 0 || after.Order != "" {
		t.Errorf("a reset journal holds %+v", after)
	}
}

func TestDamagedJournalIsRefusedAndKept(t *testing.T) {
	good, err := fullJournal(t).encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string]string{
		"cut off":            string(good[:len(good)/2]),
		"empty":              "",
		"another's":          `{"hello":"world"}`,
		"newer":              strings.Replace(string(good), `"version":1`, `"version":2`, 1),
		"unknown state":      strings.Replace(string(good), `"state":"told"`, `"state":"tolt"`, 1),
		"unknown type":       strings.Replace(string(good), `"type":"http-01"`, `"type":"ftp-01"`, 1),
		"token as a path":    strings.Replace(string(good), `"token":"t-_9"`, `"token":"../accounts/pebble"`, 1),
		"record lost":        strings.Replace(string(good), `"record":{`, `"recorb":{`, 1),
		"order without key":  `{"version":1,"order":"https://ca/order/1"}`,
		"key that is no key": `{"version":1,"key":"aGVsbG8="}`,
	} {
		t.Run(name, func(t *testing.T) {
			st := store.NewMem(0).Replica("one")
			if _, err := st.Put(t.Context(), "orders/pebble/x", []byte(raw), ""); err != nil {
				t.Fatal(err)
			}
			_, err := openBook(t.Context(), "pebble", request(t, st, "x", "a.example.com"), 0)
			if err == nil || !strings.Contains(err.Error(), "orders/pebble/x") {
				t.Errorf("error: %v", err)
			}
			if newer := strings.Contains(fmt.Sprint(err), "a later version"); newer != (name == "newer") || newer && strings.Contains(err.Error(), "delete it") {
				t.Errorf("what to do about it: %v", err)
			}
			if e, err := st.Get(t.Context(), "orders/pebble/x"); err != nil || string(e.Value) != raw {
				t.Errorf("it was changed: %v", err)
			}
		})
	}
}

// forgetful does what it is asked and says it did not, or does not do it.
type forgetful struct {
	store.Lease
	do   []bool
	puts int
}

func (f *forgetful) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	f.puts++
	if len(f.do) == 0 {
		return f.Lease.Put(ctx, key, value, have)
	}
	do := f.do[0]
	f.do = f.do[1:]
	if do {
		if _, err := f.Lease.Put(ctx, key, value, have); err != nil {
			return "", err
		}
	}
	return "", errors.New("the answer is lost")
}

func TestAmbiguousJournalWrite(t *testing.T) {
	for name, c := range map[string]struct {
		do   []bool
		puts int
	}{
		"done":              {[]bool{true}, 1},
		"not done":          {[]bool{false}, 2},
		"not done, done":    {[]bool{false, true}, 2},
		"not done at first": {[]bool{false, false, false}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			st := store.NewMem(0).Replica("one")
			req := request(t, st, "x", "a.example.com")
			lease := &forgetful{Lease: req.Lease, do: c.do}
			b, err := openBook(t.Context(), "pebble", cert.Request{ID: "x", Lease: lease}, time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			j := fullJournal(t)
			for range 2 { // the second write needs the first one's revision
				if err := b.write(t.Context(), j); err != nil {
					t.Fatal(err)
				}
				j.Order += "1"
			}
			if lease.puts != c.puts+1 {
				t.Errorf("%d writes, want %d", lease.puts, c.puts+1)
			}
			e, err := st.Get(t.Context(), "orders/pebble/x")
			if err != nil || !bytes.Contains(e.Value, []byte("order/11")) {
				t.Errorf("stored: %s %v", e.Value, err)
			}
		})
	}
}

func TestWriteUnderAnothersJournal(t *testing.T) {
	st := store.NewMem(0).Replica("one")
	b, err := openBook(t.Context(), "pebble", request(t, st, "x"), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), "orders/pebble/x", []byte("another's"), ""); err != nil {
		t.Fatal(err)
	}
	if err := b.write(t.Context(), journal{}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("got %v", err)
	}
}

func TestStaleJournal(t *testing.T) {
	key, err := newKey(EC256)
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := parseKey(key)
	now := time.Now()
	chain := selfSigned(t, signer, now.Add(time.Hour), "a.example.com")
	parsed, err := parseChain(chain)
	if err != nil {
		t.Fatal(err)
	}
	j := journal{Key: key, Directory: "d", Names: []string{"a.example.com"}}
	done := j
	done.Chain = chain
	req := cert.Request{Names: []string{"A.example.com"}}
	renewal := cert.Request{Names: j.Names, Replaces: parsed[0].Raw}
	for name, c := range map[string]struct {
		j    journal
		req  cert.Request
		dir  string
		at   time.Time
		want string
	}{
		"empty":                {journal{}, req, "d", now, ""},
		"under way":            {j, req, "d", now, ""},
		"under way, a renewal": {j, renewal, "d", now, ""},
		"other names":          {j, cert.Request{Names: []string{"b.example.com"}}, "d", now, "other names"},
		"another CA":           {j, req, "e", now, "another CA"},
		"done":                 {done, req, "d", now, ""},
		"done and stored":      {done, renewal, "d", now, "to be renewed"},
		"done long ago":        {done, req, "d", now.Add(2 * time.Hour), "expired"},
	} {
		if got := stale(c.j, c.req, c.dir, c.at); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func FuzzDecodeJournal(f *testing.F) {
	good, err := fullJournal(f).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"leftovers":[{"type":"dns-01","state":"told","record":{}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		j, err := decodeJournal(raw)
		if err != nil {
			return
		}
		for _, c := range append(j.Challenges, j.Leftovers...) {
			if c.Type != dns01 {
				if err := store.CheckKey(c.entryKey()); err != nil || !strings.HasPrefix(c.entryKey(), "challenges/") {
					t.Fatalf("would write %q: %v", c.entryKey(), err)
				}
			}
		}
		again, err := j.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeJournal(again); err != nil {
			t.Fatalf("what it wrote it cannot read: %v\n%s", err, again)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add("challenges/http-01/tok", []byte(`{"version":1,"value":"tok.thumb"}`))
	f.Add("challenges/tls-alpn-01/a.example.com", []byte(`{"version":1,"name":"a.example.com","value":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}`))
	f.Fuzz(func(t *testing.T, key string, raw []byte) {
		e, err := decodeEntry(key, raw)
		if err != nil {
			return
		}
		if strings.HasPrefix(key, alpnPrefix) {
			if _, err := alpnCertificate(e); err != nil {
				t.Fatalf("%q: %v", e.Name, err)
			}
		} else if strings.ContainsAny(e.Value, "\r\n<") {
			t.Fatalf("would answer %q", e.Value)
		}
	})
}
