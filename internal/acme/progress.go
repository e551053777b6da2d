package acme

import (
	"fmt"
	"strings"

	"gatehouse/internal/cert"
)

var _ cert.Progress = (*Issuer)(nil)

// Progress says how far the order of a journal is, for people.
func (i *Issuer) Progress(raw []byte) (string, error) {
	j, err := decodeJournal(raw)
	if err != nil {
		return "", err
	}
	return j.progress(), nil
}

// Ordered are the names of a journal's order.
func (i *Issuer) Ordered(raw []byte) []string {
	j, err := decodeJournal(raw)
	if err != nil || len(j.Key) == 0 {
		return nil
	}
	return j.Names
}

func (j journal) progress() string {
	var text string
	switch {
	case len(j.Chain) > 0:
		text = "certificate downloaded"
	case j.Finalized:
		text = "finalized, waiting for the certificate"
	case j.Order != "" && len(j.Challenges) == 0:
		text = "ordered"
	case j.Order != "":
		text = "proving " + j.proving()
	case len(j.Key) > 0:
		text = "about to order"
	default:
		text = "given up"
	}
	if j.Order != "" {
		text += ": " + j.Order
	}
	if n := len(j.Leftovers); n > 0 {
		text += fmt.Sprintf("; challenges of earlier orders to clean up: %d", n)
	}
	return text
}

func (j journal) proving() string {
	parts := make([]string, 0, len(j.Challenges))
	for _, c := range j.Challenges {
		parts = append(parts, fmt.Sprintf("%s (%s %s)", c.Name, c.Type, c.State))
	}
	return strings.Join(parts, ", ")
}
