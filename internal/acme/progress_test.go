package acme

import (
	"strings"
	"testing"
)

func TestProgress(t *testing.T) {
	key, err := newKey(EC256)
	if err != nil {
		t.Fatal(err)
	}
	order := "https://ca.example/order/1"
	proving := []challenge{{Name: "a.example.com", Type: http01, Token: "t", State: told}}
	for want, j := range map[string]journal{
		"about to order":    {Key: key},
		"ordered: " + order: {Key: key, Order: order},
		"proving a.example.com (http-01 told): " + order:        {Key: key, Order: order, Challenges: proving},
		"finalized, waiting for the certificate: " + order:      {Key: key, Order: order, Challenges: proving, Finalized: true},
		"certificate downloaded: " + order:                      {Key: key, Order: order, Finalized: true, Chain: []byte("x")},
		"given up; challenges of earlier orders to clean up: 1": {Leftovers: proving},
	} {
		raw, err := j.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (&Issuer{}).Progress(raw); err != nil || got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got, err := (&Issuer{}).Progress([]byte("{")); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged: %q, %v", got, err)
	}
}
