package acme

import (
	"net/http"
	"slices"
	"testing"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

func TestWhichLostOrderFits(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	j := journal{Names: []string{"b.org", "a.org"}, Replaces: "x.y"}
	fit := func(change func(*acmez.Order)) acmez.Order {
		o := acmez.Order{Status: "pending", Expires: now.Add(time.Hour), Identifiers: identifiers([]string{"A.org", "b.org"})}
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		order acmez.Order
		want  bool
	}{
		"as it would be made": {fit(func(*acmez.Order) {}), true},
		"ready":               {fit(func(o *acmez.Order) { o.Status, o.Replaces = "ready", "x.y" }), true},
		"somebody finalized":  {fit(func(o *acmez.Order) { o.Status = "processing" }), false},
		"done":                {fit(func(o *acmez.Order) { o.Status = "valid" }), false},
		"about to expire":     {fit(func(o *acmez.Order) { o.Expires = now.Add(time.Minute) }), false},
		"another's":           {fit(func(o *acmez.Order) { o.Replaces = "z.z" }), false},
		"fewer names":         {fit(func(o *acmez.Order) { o.Identifiers = o.Identifiers[:1] }), false},
	} {
		if got := j.fits(c.order, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestNewestFirst(t *testing.T) {
	urls := []string{"1", "2", "3", "4", "5"}
	if got := newestFirst(urls, 9); !slices.Equal(got, []string{"5", "1", "4", "2", "3"}) {
		t.Error(got)
	}
	if got := newestFirst(urls, 2); !slices.Equal(got, []string{"5", "1"}) {
		t.Error(got)
	}
}

func TestNextLink(t *testing.T) {
	for header, want := range map[string]string{
		`<https://ca.test/o/page/2>;rel="next"`:                         "https://ca.test/o/page/2",
		`<https://ca.test/dir>;rel="index", </o?cursor=2> ; rel="next"`: "https://ca.test/o?cursor=2",
		`<https://ca.test/dir>;rel="index"`:                             "",
		`https://ca.test/o;rel="next"`:                                  "",
	} {
		if got := nextLink(http.Header{"Link": {header}}, "https://ca.test/o"); got != want {
			t.Errorf("%s: got %q", header, got)
		}
	}
}
