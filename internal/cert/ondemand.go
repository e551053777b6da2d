package cert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/store"
)

const onDemandPrefix = "ondemand"

// Bounds of what unknown names can cost. A name that the allow list does not
// match costs a comparison with each pattern, and leaves nothing behind.
const (
	onDemandWaiting = 100                    // names waiting to be asked about
	onDemandForget  = time.Minute            // for so long a name is not asked about again
	onDemandKnown   = 10_000                 // names that is known of; then it is forgotten of all
	onDemandAsk     = 5 * time.Second        // for one answer of the ask URL
	onDemandAgain   = 10 * time.Second       // after the store failed
	onDemandPause   = 100 * time.Millisecond // after a name that could not be let in: the next would not be either
	onDemandTell    = time.Minute            // between two messages of that
)

// OnDemandOptions make an OnDemand. Of Allow and Ask at least one is given.
type OnDemandOptions struct {
	Store store.Store
	// Allow are names, and "*.name" for any one label before it; empty: Ask
	// alone decides.
	Allow []string
	// Ask is a URL that is asked with ?domain=NAME; 200 is yes, all else no.
	Ask       string
	PerMinute int // new names all replicas together let in a minute
	Most      int // names in all
	Replica   string
	Logger    *slog.Logger
	// Changed is called when Names gives something else.
	Changed func()
}

// OnDemand lets names in that nobody configured, where a policy permits it:
// clients ask for them in handshakes. No handshake waits for that, and none
// costs an order by itself: the name is put into the store, at ondemand/<id>, and
// from then on every replica wants a certificate for it. All methods may be
// called from any goroutine.
type OnDemand struct {
	o     OnDemandOptions
	queue chan string
	names atomic.Pointer[map[string]bool] // those let in; nil: not known yet
	http  *http.Client

	budget  budget
	members atomic.Int64              // replicas that share the store, as far as is known
	refused map[string]store.Revision // told of already; only see touches it

	mu    sync.Mutex
	asked map[string]time.Time // until when a name is not asked about again
}

// NewOnDemand makes one; it does nothing until Run.
func NewOnDemand(o OnDemandOptions) *OnDemand {
	d := &OnDemand{
		o: o, queue: make(chan string, onDemandWaiting), asked: map[string]time.Time{},
		http: &http.Client{Timeout: onDemandAsk, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	d.budget = budget{store: o.Store, perMinute: o.PerMinute, replicas: func() int { return int(d.members.Load()) }}
	return d
}

// Names are those let in so far that the allow list still permits.
func (d *OnDemand) Names() []string {
	known := d.names.Load()
	if known == nil {
		return nil
	}
	list := make([]string, 0, len(*known))
	for n := range *known {
		if d.allowed(n) {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// Note takes notice of a server name that no certificate fits. It never
// blocks; see IndexOptions.Unknown.
func (d *OnDemand) Note(name string) {
	known := d.names.Load()
	if known == nil || (*known)[name] || !d.allowed(name) {
		return
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Before(d.asked[name]) {
		return
	}
	if len(d.asked) >= onDemandKnown {
		clear(d.asked)
	}
	select {
	case d.queue <- name:
		d.asked[name] = now.Add(onDemandForget)
	default: // the next handshake may find room
	}
}

// allowed: the name is one that a CA might issue for, and the list permits it.
func (d *OnDemand) allowed(name string) bool {
	if len(d.o.Allow) > 0 && !covers(d.o.Allow, name) {
		return false
	}
	return strings.Contains(name, ".") && !strings.HasPrefix(name, "*.") && !isIP(name) && notHostName(name) == ""
}

// Run lets names in, and follows those of other replicas, until ctx ends.
func (d *OnDemand) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		for entries, err := range d.o.Store.Watch(ctx, onDemandPrefix) {
			if err == nil {
				d.see(entries)
			}
		}
	})
	work.Go(func() {
		for entries, err := range d.o.Store.Watch(ctx, "members") {
			if err == nil {
				d.members.Store(int64(len(entries)))
			}
		}
	})
	// Anybody may ask for any name: what cannot be done is told once a minute.
	var tell time.Time
	others := 0 // since then
	for {
		select {
		case <-ctx.Done():
			return nil
		case name := <-d.queue:
			if err := guard(func() error { return d.consider(ctx, name) }); err != nil && ctx.Err() == nil {
				now := time.Now()
				if others++; !now.Before(tell) {
					d.o.Logger.Warn("name is not let in", "name", name, "others", others-1, "err", err,
						"next", "it is considered again if a client asks after a minute")
					tell, others = now.Add(onDemandTell), 0
				}
				store.Sleep(ctx, onDemandPause)
			}
		}
	}
}

// onDemandRecord is the value under ondemand/.
type onDemandRecord struct {
	Version int       `json:"version"`
	Name    string    `json:"name"`
	Since   time.Time `json:"since"`
	Replica string    `json:"replica,omitempty"`
}

func (d *OnDemand) see(entries []store.Entry) {
	names, refused := make(map[string]bool, len(entries)), map[string]store.Revision{}
	for _, e := range entries {
		var r onDemandRecord
		if len(e.Value) > 4<<10 || json.Unmarshal(e.Value, &r) != nil || r.Version != recordVersion || e.Key != onDemandKey(r.Name) {
			if refused[e.Key] = e.Revision; d.refused[e.Key] != e.Revision {
				d.o.Logger.Warn("stored name refused", "key", e.Key, "next", "it is not wanted")
			}
			continue
		}
		names[r.Name] = true
	}
	d.refused = refused
	d.names.Store(&names)
	d.o.Changed()
}

func onDemandKey(name string) string { return onDemandPrefix + "/" + ID([]string{name}) }

// consider asks whether a name may be let in and, if so, does it.
func (d *OnDemand) consider(ctx context.Context, name string) error {
	known := d.names.Load()
	switch {
	case (*known)[name]:
		return nil
	case len(*known) >= d.o.Most:
		return fmt.Errorf("there are %d names already, and no more are allowed", len(*known))
	}
	if d.o.Ask != "" {
		if yes, err := d.ask(ctx, name); err != nil || !yes {
			return err // a no is no news: anybody may ask for anything
		}
	}
	if err := d.budget.take(ctx); err != nil {
		return err
	}
	value, err := json.Marshal(onDemandRecord{recordVersion, name, time.Now().UTC(), d.o.Replica})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, onDemandAgain)
	defer cancel()
	_, err = d.o.Store.Put(ctx, onDemandKey(name), value, "")
	switch {
	case errors.Is(err, store.ErrConflict):
		return nil // another replica did
	case err != nil:
		return fmt.Errorf("write %s: %w", onDemandKey(name), err)
	}
	d.o.Logger.Info("name let in on demand", "name", name)
	return nil
}

// ask puts the name to the operator's URL.
func (d *OnDemand) ask(ctx context.Context, name string) (bool, error) {
	u, err := url.Parse(d.o.Ask)
	if err != nil {
		return false, err
	}
	q := u.Query()
	q.Set("domain", name)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return false, err
	}
	resp, err := d.http.Do(req)
	if err != nil {
		var at *url.Error // its URL may hold a password
		if errors.As(err, &at) {
			err = at.Err
		}
		return false, fmt.Errorf("ask whether it is allowed: %s does not answer: %w", u.Host, err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	_ = resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return false, fmt.Errorf("ask whether it is allowed: %s said %s", u.Host, resp.Status)
	}
	return resp.StatusCode == http.StatusOK, nil
}
