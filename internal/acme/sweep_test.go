package acme

import (
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/e2e/rig/smallca"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// TestOrphansAreSwept: a replica dies once it has presented what proves a name,
// and the name is not wanted any more when the next one starts.
func TestOrphansAreSwept(t *testing.T) {
	for _, kind := range []string{dns01, http01} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := calm(t, 1, func(int) string { return "a.example.com" }, smallca.Options{Lifetime: 90 * 24 * time.Hour})
				w.kind = kind
				w.diesTelling()
				wants := w.wants
				w.wants = nil
				w.bootAll(3)
				time.Sleep(time.Minute)
				if left := w.presented(); len(left) > 0 {
					t.Errorf("a minute after: %v", left)
				}
				for _, say := range []string{"order nobody wants cleaned up", "removed=", "next=\"the order goes on if its names are wanted again\""} {
					if n := strings.Count(w.log.String(), say); n != 1 {
						t.Errorf("%q was said %d times", say, n)
					}
				}
				w.wants = wants
				w.want(wants)
				w.until(1, time.Minute)
				w.ca.Seen(func(c *smallca.Counts) {
					if c.NewOrders["a.example.com"] != 1 {
						t.Errorf("%d newOrder: what was ordered is lost", c.NewOrders["a.example.com"])
					}
				})
				time.Sleep(time.Minute)
				if trouble := w.unrest(); len(trouble) > 0 {
					t.Error(trouble)
				}
				w.end()
			})
		})
	}
}

// TestDamagedOrphan: a journal that nobody can read and nobody wants is shown
// and told of once by each replica; after a week one deletes it, restarts
// between or not. One that only this program cannot read stays.
func TestDamagedOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, 0, nil, smallca.Options{})
		st := w.mem.Replica("vandal")
		const damaged, later = "orders/sim/old.example.com-1", "orders/sim/new.example.com-1"
		for key, value := range map[string]string{damaged: `{"version":1,"key":"LS0t`, later: `{"version":99}`} {
			if _, err := st.Put(t.Context(), key, []byte(value), ""); err != nil {
				t.Fatal(err)
			}
		}
		has := func(key string) bool { _, err := st.Get(t.Context(), key); return err == nil }
		w.bootAll(3)
		time.Sleep(3 * 24 * time.Hour)
		var shown []string
		for _, s := range w.replicas[1].keeper.Status() {
			shown = append(shown, s.ID+" "+s.Problem)
		}
		if len(shown) != 2 || !strings.Contains(shown[1], "journal "+damaged+": it is damaged: ") || !strings.Contains(shown[0], "version 99") {
			t.Errorf("shown: %q", shown)
		}
		if n := strings.Count(w.log.String(), "order journal cannot be read"); n != 6 {
			t.Errorf("told of %d times by three replicas of two journals", n)
		}
		for i, r := range w.replicas {
			r.cancel()
			<-r.done
			w.replicas[i] = w.boot(i)
		}
		time.Sleep(4*24*time.Hour - time.Hour)
		if !has(damaged) {
			t.Error("it was deleted before its time")
		}
		time.Sleep(2 * time.Hour)
		if has(damaged) || has("damaged/sim/old.example.com-1") || !has(later) {
			t.Errorf("a week later: damaged %v, note %v, of a later version %v", has(damaged), has("damaged/sim/old.example.com-1"), has(later))
		}
		if n := strings.Count(w.log.String(), "damaged order nobody wants deleted"); n != 1 {
			t.Errorf("its end was told of %d times", n)
		}
		w.end()
	})
}

// TestSweepKeepsWhatItCannotRemove: while the provider is down the record stays
// in the journal, and is tried again every few minutes, with a message; the
// journal goes once the order is of no use to anybody.
func TestSweepKeepsWhatItCannotRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, 1, func(int) string { return "a.example.com" }, smallca.Options{Lifetime: 90 * 24 * time.Hour})
		w.kind = dns01
		w.diesTelling()
		w.wants = nil
		w.dns.down = time.Now().Add(20 * time.Minute)
		w.bootAll(1)
		time.Sleep(19 * time.Minute)
		if left := w.presented(); len(left) != 2 { // the record, and the journal that knows it
			t.Errorf("while the provider is down: %v", left)
		}
		text := w.log.String()
		if n := strings.Count(text, "what an order left behind that nobody wants stays"); n < 3 || n > 5 {
			t.Errorf("%d messages in 19 minutes", n)
		}
		for _, say := range []string{"TXT _acme-challenge.a.example.com in zone example.com", "the DNS provider is down", "next="} {
			if !strings.Contains(text, say) {
				t.Errorf("no message has %q", say)
			}
		}
		time.Sleep(7 * time.Minute)
		if left := w.presented(); len(left) > 0 {
			t.Errorf("after the provider's return: %v", left)
		}
		if !w.has("orders/sim/" + cert.ID([]string{"a.example.com"})) {
			t.Error("the order is lost")
		}
		time.Sleep(orphanLife)
		if w.has("orders/sim/" + cert.ID([]string{"a.example.com"})) {
			t.Error("the journal stays for ever")
		}
		w.end()
	})
}

// TestNothingIsSweptBeforeWantsAreKnown: a start without its configuration is
// no reason to take an order apart.
func TestNothingIsSweptBeforeWantsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, 1, func(int) string { return "a.example.com" }, smallca.Options{Lifetime: 90 * 24 * time.Hour})
		w.kind = dns01
		w.diesTelling()
		w.silent = true
		w.bootAll(1)
		time.Sleep(time.Hour)
		if left := w.presented(); len(left) != 2 {
			t.Errorf("%v", left)
		}
		w.end()
	})
}

// diesTelling has a replica die as it is about to tell the CA that something
// is presented.
func (w *simWorld) diesTelling() {
	r := w.boot(9)
	r.mu.Lock()
	r.dies = "CA challenge"
	r.mu.Unlock()
	<-r.done
	if len(w.presented()) < 2 {
		w.t.Fatalf("nothing was presented: %v", w.presented())
	}
}

// want tells all replicas what is wanted.
func (w *simWorld) want(wants []cert.Want) {
	for _, r := range w.replicas {
		r.keeper.Want(wants)
	}
}

func (w *simWorld) has(key string) bool {
	_, err := w.mem.Replica("looker").Get(context.Background(), key)
	return err == nil
}

// presented is every record, every entry and every journal that knows of one.
func (w *simWorld) presented() (left []string) {
	entries, err := store.List(context.Background(), w.mem.Replica("looker"), "")
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range entries {
		switch kind, _, _ := strings.Cut(e.Key, "/"); kind {
		case "challenges":
			left = append(left, e.Key)
		case "orders":
			if j, err := decodeJournal(e.Value); err != nil || len(j.Challenges)+len(j.Leftovers) > 0 {
				left = append(left, fmt.Sprintf("%s: %s", e.Key, j.progress()))
			}
		}
	}
	w.dns.mu.Lock()
	defer w.dns.mu.Unlock()
	for rec := range w.dns.records {
		left = append(left, rec)
	}
	slices.Sort(left)
	return left
}

// abandon wants some more names and, in the middle of their orders, does not
// any more; some replicas are dead or cut off meanwhile, and some die now.
func (w *simWorld) abandon() {
	wants := w.wants
	for n := range 1 + w.pick(3) {
		names := []string{fmt.Sprintf("gone%d.example.com", n)}
		if w.chance(0.5) {
			names = append(names, "www."+names[0])
		}
		w.gone = append(w.gone, names)
		wants = append(wants[:len(wants):len(wants)], cert.Want{Names: names, Issuer: "sim", Source: "sim"})
	}
	w.want(wants)
	time.Sleep(w.upTo(25 * time.Second))
	w.want(w.wants)
	for _, r := range w.replicas {
		if w.chance(0.5) {
			r.mu.Lock()
			r.fuse = w.pick(10)
			r.mu.Unlock()
		}
	}
	time.Sleep(w.upTo(20 * time.Second))
	w.ca.Seen(func(c *smallca.Counts) {
		for names, n := range c.NewOrders {
			if w.isGone(names) {
				w.note(func() { w.excused += n })
			}
		}
	})
}

// swept waits until nothing is left that proves a name nobody wants, and
// judges how long that took.
func (w *simWorld) swept() {
	// The last order of them may be in work still, and is not broken off. After
	// it comes the grace of 30 s, and one pause of 5 min if the DNS is down.
	const most = 10 * time.Minute
	began := time.Now()
	for ; ; time.Sleep(time.Second) {
		left := slices.DeleteFunc(w.presented(), func(s string) bool {
			return !slices.ContainsFunc(w.gone, func(names []string) bool {
				return strings.Contains(s, names[0]) || strings.Contains(s, cert.ID(names))
			})
		})
		if len(left) == 0 {
			break
		}
		if time.Since(began) > most {
			w.t.Errorf("seed %d: %s after the last fault: %v", w.seed, most, left)
			return
		}
	}
	fmt.Fprintf(&w.log, "%s SWEPT after %s\n", time.Now().Format(time.TimeOnly), time.Since(began))
}

// isGone tells whether a set of names, as the CA counts it, is of those.
func (w *simWorld) isGone(names string) bool { return strings.Contains(names, "gone") }

func (w *simWorld) isGoneKey(key string) bool {
	return slices.ContainsFunc(w.gone, func(names []string) bool { return strings.HasSuffix(key, "/"+cert.ID(names)) })
}

// inJournal tells whether the key of a certificate that nobody stored is kept:
// its name is wanted by nobody.
func (w *simWorld) inJournal(i *smallca.Issued) bool {
	for _, names := range w.gone {
		e, err := w.mem.Replica("looker").Get(context.Background(), "orders/sim/"+cert.ID(names))
		if err != nil || !strings.Contains(i.Names, names[0]) {
			continue
		}
		j, err := decodeJournal(e.Value)
		if err != nil {
			return false
		}
		key, err := parseKey(j.Key)
		return err == nil && i.Leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public())
	}
	return false
}
