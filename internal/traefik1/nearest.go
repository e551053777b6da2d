package traefik1

import "strings"

// nearest gives the name that text most probably meant, or "": at most a
// third of it may be wrong.
func nearest(text string, names []string) string {
	if len(text) > 64 {
		return ""
	}
	best, distance := "", len(text)/3+1
	for _, name := range names {
		if d := editDistance(strings.ToLower(text), strings.ToLower(name)); d < distance || d == 0 {
			best, distance = name, d
		}
	}
	return best
}

// editDistance counts the bytes to insert, delete, change or swap.
func editDistance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			change := row[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			next[j] = min(change, row[j]+1, next[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
