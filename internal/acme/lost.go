package acme

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/store"
)

// listCA is the part of a CA that lists an account's orders (RFC 8555, section
// 7.1.2.1). Many do not: then URL is empty.
type listCA interface {
	OrdersURL(ctx context.Context, a acmez.Account) (string, error)
	// Orders gives one page of the list, and the URL of the next; empty: it is
	// the last.
	Orders(ctx context.Context, a acmez.Account, url string) (orders []string, next string, err error)
}

var _ listCA = (*client)(nil)

// Bounds of the search for an order whose address was lost.
const (
	searchFor   = 10 * time.Second
	searchPages = 400
	searchReads = 60
	// searchLife is what the order found must have left of its own.
	searchLife = 15 * time.Minute
)

// ordersOf is where an account's orders are listed.
type ordersOf struct{ account, url string }

// find looks in the account's orders for one that a newOrder made whose answer
// nobody has: it was lost, or whoever sent it died. What cannot be found out
// costs an order, no more: CAs that count orders give the same one again.
func (m *machine) find(ctx context.Context) (acmez.Order, bool) {
	lists := m.issuer.lists
	if lists == nil {
		return acmez.Order{}, false
	}
	if err := m.step(ctx, "look for an order whose address was lost"); err != nil {
		return acmez.Order{}, false
	}
	bounded, cancel := context.WithTimeout(ctx, searchFor)
	defer cancel()
	found, err := m.search(bounded, lists)
	if err != nil && held(ctx) == nil {
		m.issuer.log.Info("the account's orders cannot be searched", "order", m.book.key, "err", err, "next", "it is ordered")
	}
	if found == nil {
		return acmez.Order{}, false
	}
	return *found, true
}

func (m *machine) search(ctx context.Context, lists listCA) (*acmez.Order, error) {
	list := m.issuer.ordersOf.Load()
	if list == nil || list.account != m.account.Location {
		at, err := lists.OrdersURL(ctx, m.account)
		if err != nil {
			return nil, err
		}
		list = &ordersOf{m.account.Location, at}
		m.issuer.ordersOf.Store(list)
	}
	var urls []string
	for at, pages := list.url, 0; at != "" && pages < searchPages; pages++ {
		page, next, err := lists.Orders(ctx, m.account, at)
		if err != nil {
			return nil, err
		}
		urls, at = append(urls, page...), next
	}
	if len(urls) == 0 {
		return nil, nil
	}
	taken, err := m.issuer.journaled(ctx)
	if err != nil {
		return nil, err
	}
	urls = slices.DeleteFunc(urls, func(u string) bool { return taken[u] })
	for _, u := range newestFirst(urls, searchReads) {
		o, _, err := m.issuer.ca.Order(ctx, m.account, u)
		if isGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m.book.now.fits(o, time.Now()) {
			o.Location = u
			return &o, nil
		}
	}
	return nil, nil
}

// fits reports whether an order is what j would ask for, and can be gone on with.
func (j journal) fits(o acmez.Order, now time.Time) bool {
	switch {
	case o.Status != acmez.StatusPending && o.Status != acmez.StatusReady:
		return false
	case !o.Expires.IsZero() && o.Expires.Before(now.Add(searchLife)):
		return false
	case o.Replaces != "" && j.Replaces != "" && o.Replaces != j.Replaces:
		return false
	case o.Profile != "" && j.Profile != "" && o.Profile != j.Profile:
		return false
	}
	names := make([]string, 0, len(o.Identifiers))
	for _, id := range o.Identifiers {
		names = append(names, strings.ToLower(id.Value))
	}
	return slices.Equal(sortedNames(names), sortedNames(j.Names))
}

// journaled are the orders that some journal knows: they are somebody's. Two
// issuers may share an account, and want the same names.
func (i *Issuer) journaled(ctx context.Context) (map[string]bool, error) {
	entries, err := store.List(ctx, i.opts.Store, "orders")
	if err != nil {
		return nil, fmt.Errorf("read the journals: %w", err)
	}
	taken := map[string]bool{}
	for _, e := range entries {
		var j struct {
			Order string `json:"order"`
		}
		if json.Unmarshal(e.Value, &j) == nil && j.Order != "" {
			taken[j.Order] = true
		}
	}
	return taken, nil
}

// newestFirst gives at most n of urls from both ends in turn: most CAs list the
// newest last, none has to.
func newestFirst(urls []string, n int) []string {
	var out []string
	for first, last := 0, len(urls)-1; first <= last && len(out) < n; {
		out = append(out, urls[last])
		last--
		if first <= last && len(out) < n {
			out = append(out, urls[first])
			first++
		}
	}
	return out
}

func (c *client) OrdersURL(ctx context.Context, a acmez.Account) (string, error) {
	found, err := c.FindAccount(ctx, a.PrivateKey)
	return found.Orders, err
}

func (c *client) Orders(ctx context.Context, a acmez.Account, at string) (orders []string, next string, err error) {
	var page struct{ Orders []string }
	_, err = c.do(ctx, "list orders", func(ctx context.Context, lib *acmez.Client) error {
		r, _ := ctx.Value(recordKey{}).(*record)
		// The library has no call for it; a list is read as an order without anything.
		if _, err := lib.GetOrder(ctx, a, acmez.Order{Location: at}); err != nil {
			return err
		}
		next = nextLink(r.header, at)
		return json.Unmarshal(r.body, &page)
	})
	return page.Orders, next, err
}

// nextLink is the URL of the Link header with rel="next" (RFC 8288).
func nextLink(h http.Header, base string) string {
	for _, v := range h.Values("Link") {
		for one := range strings.SplitSeq(v, ",") {
			target, params, ok := strings.Cut(strings.TrimSpace(one), ">")
			target, angle := strings.CutPrefix(target, "<")
			if !ok || !angle || !strings.Contains(strings.ReplaceAll(params, " ", ""), `rel="next"`) {
				continue
			}
			from, err1 := url.Parse(base)
			to, err2 := url.Parse(target)
			if cmp.Or(err1, err2) == nil {
				return from.ResolveReference(to).String()
			}
		}
	}
	return ""
}
