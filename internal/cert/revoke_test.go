package cert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// Revoke takes a certificate back, or fails as everything else does.
func (c *client) Revoke(_ context.Context, r Revocation) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return "", c.down
	}
	if c.revoked == nil {
		c.revoked = map[string]Revocation{}
	}
	c.revoked[fingerprint(r.Leaf)] = r
	return "gone", nil
}

func TestRevoked(t *testing.T) {
	begin := func(t *testing.T) (*smallCA, []*replica, string) {
		ca := newSmallCA(t, 4*day)
		all := startAll(t, store.NewMem(0), ca, 3, wantNames("a.example.com", "b.example.com"))
		time.Sleep(time.Hour)
		return ca, all, ID([]string{"a.example.com"})
	}
	ask := func(t *testing.T, r *replica, id string, stop bool) {
		t.Helper()
		if _, err := Revoke(t.Context(), r.store, "ca", id, "keyCompromise", stop); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("and replaced", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ca, all, id := begin(t)
			old := all[0].mustServe("a.example.com")
			ask(t, all[2], id, false)
			time.Sleep(10 * time.Second)
			for _, r := range all {
				if r.mustServe("a.example.com").SerialNumber.Cmp(old.SerialNumber) == 0 {
					t.Errorf("%s serves the revoked one", r.name)
				}
				if s := r.status(id); s.State != StateValid || !strings.Contains(s.Revocation, "reason keyCompromise: revoked: gone") {
					t.Errorf("%s: %s, revocation %q", r.name, s.State, s.Revocation)
				}
			}
			if r := ca.revoked[fingerprint(old.Raw)]; r.Reason.Code() != 1 || len(r.Key) == 0 || len(ca.revoked) != 1 {
				t.Errorf("the CA was asked for %v", ca.revoked)
			}
			if orders, _, _ := ca.counts(); orders != 3 {
				t.Errorf("%d orders", orders)
			}
			time.Sleep(3 * day) // the next renewal forgets it
			if all[0].has("revocations/ca/" + id) {
				t.Error("the revocation is still in the store")
			}
		})
	})
	t.Run("for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ca, all, id := begin(t)
			ask(t, all[0], id, true)
			time.Sleep(84 * time.Hour)
			for _, r := range all {
				if leaf := r.served("a.example.com"); leaf != nil {
					t.Errorf("%s serves %s", r.name, leaf.SerialNumber)
				}
				r.mustServe("b.example.com")
				if s := r.status(id); s.State != StateRevoked {
					t.Errorf("%s: %s", r.name, s.State)
				}
			}
			if orders, _, _ := ca.counts(); orders != 3 { // b was renewed once
				t.Errorf("%d orders", orders)
			}
			if _, err := RequestNow(t.Context(), all[1].store, "ca", id); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			all[2].mustServe("a.example.com")
		})
	})
	t.Run("once the CA is there", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ca, all, id := begin(t)
			ca.say(&RetryError{Err: errors.New("no answer"), Unreached: true})
			ask(t, all[0], id, false)
			time.Sleep(time.Hour)
			if s := all[1].status(id); !strings.Contains(s.Revocation, "not yet") || !strings.Contains(s.Revocation, "no answer") {
				t.Errorf("revocation %q", s.Revocation)
			}
			ca.say(nil)
			time.Sleep(6 * time.Minute)
			if s := all[1].status(id); !strings.Contains(s.Revocation, "revoked: gone") {
				t.Errorf("revocation %q", s.Revocation)
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ca, all, id := begin(t)
			ca.say(&RefusedError{fmt.Errorf("403 unauthorized")})
			ask(t, all[0], id, true)
			time.Sleep(time.Hour)
			ca.say(nil)
			time.Sleep(day)
			if s := all[1].status(id); s.State != StateValid || !strings.Contains(s.Revocation, "refused: 403 unauthorized") {
				t.Errorf("%s, revocation %q", s.State, s.Revocation)
			}
			all[2].mustServe("a.example.com")
		})
	})
}

// A replica that dies while the CA is asked is followed by another.
func TestRevocationSurvivesDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 4*day)
		mem := store.NewMem(0)
		all := startAll(t, mem, ca, 2, wantNames("a.example.com"))
		time.Sleep(time.Hour)
		id := ID([]string{"a.example.com"})
		ca.say(errors.New("busy"))
		if _, err := Revoke(t.Context(), all[0].store, "ca", id, "superseded", false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		all[0].store.Kill()
		all[0].stop()
		ca.say(nil)
		time.Sleep(2 * time.Minute)
		if s := all[1].status(id); !strings.Contains(s.Revocation, "revoked: gone") || s.State != StateValid {
			t.Errorf("%s, revocation %q", s.State, s.Revocation)
		}
	})
}

func TestReasons(t *testing.T) {
	for _, text := range Reasons() {
		if r, err := ParseReason(strings.ToUpper(text)); err != nil || string(r) != text {
			t.Errorf("%s: %s, %v", text, r, err)
		}
	}
	if _, err := ParseReason("certificateHold"); err == nil || !strings.Contains(err.Error(), "superseded, cessationOfOperation") {
		t.Errorf("an unknown reason: %v", err)
	}
}

func FuzzRevocation(f *testing.F) {
	f.Add([]byte(`{"version":1,"asked":"2026-11-23T00:00:00Z","leaf":"AAAA","reason":"superseded"}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRevocation(value)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRevocation(again); err != nil && len(again) <= maxValue {
			t.Fatalf("%s became %s: %v", value, again, err)
		}
	})
}
