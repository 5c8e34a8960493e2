//! Takes Rust text apart into code and string literals, well enough for rules about words. It is no parser: it knows comments,
//! strings, raw strings, characters and lifetimes, and nothing else.

#[derive(Default)]
pub struct Scan {
    /// The text with comments and the insides of strings and characters blanked; lines stay where they are.
    pub code: String,
    /// Inside of each string literal as written, with its line (from 1).
    pub strings: Vec<(usize, String)>,
}

struct Scanner {
    text: Vec<char>,
    at: usize,
    line: usize,
    out: Scan,
}

pub fn scan(text: &str) -> Scan {
    let mut scanner = Scanner { text: text.chars().collect(), at: 0, line: 1, out: Scan::default() };
    while scanner.at < scanner.text.len() {
        scanner.step();
    }
    scanner.out
}

impl Scanner {
    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    /// Passes one character, as it is or blanked.
    fn pass(&mut self, keep: bool) {
        let c = self.peek(0);
        self.at += 1;
        self.line += usize::from(c == '\n');
        self.out.code.push(if keep || c == '\n' { c } else { ' ' });
    }

    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => {
                while self.at < self.text.len() && self.peek(0) != '\n' {
                    self.pass(false);
                }
            }
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(None),
            ('r', '"' | '#') if !self.inside_word() => self.raw_or_word(),
            // The `b` of `br"…"` and the `c` of `cr"…"` are passed here; the `r` after them starts no word of its own.
            ('b' | 'c', 'r') if !self.inside_word() && matches!(self.peek(2), '"' | '#') => {
                self.pass(true);
                self.raw_or_word();
            }
            ('\'', _) => self.character_or_lifetime(),
            _ => self.pass(true),
        }
    }

    fn inside_word(&self) -> bool {
        self.at > 0 && self.text.get(self.at - 1).is_some_and(|c| c.is_alphanumeric() || *c == '_')
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.text.len() {
            let step = match (self.peek(0), self.peek(1)) {
                ('/', '*') => 1,
                ('*', '/') => -1,
                _ => 0,
            };
            self.pass(false);
            if step != 0 {
                self.pass(false);
                depth = depth.saturating_add_signed(step);
                if depth == 0 {
                    return;
                }
            }
        }
    }

    /// At `r`: a raw string, or a raw identifier such as `r#type`.
    fn raw_or_word(&mut self) {
        let hashes = (1..).take_while(|ahead| self.peek(*ahead) == '#').count();
        if self.peek(1 + hashes) != '"' {
            return self.pass(true);
        }
        for _ in 0..=hashes {
            self.pass(true);
        }
        self.string(Some(hashes));
    }

    /// At the opening quote. `raw` holds the number of `#` after the closing one; without it a backslash hides what follows.
    fn string(&mut self, raw: Option<usize>) {
        let line = self.line;
        let mut inside = String::new();
        self.pass(true);
        while self.at < self.text.len() {
            let c = self.peek(0);
            if c == '"' && (1..=raw.unwrap_or(0)).all(|ahead| self.peek(ahead) == '#') {
                self.pass(true);
                break;
            }
            inside.push(c);
            self.pass(false);
            if c == '\\' && raw.is_none() {
                inside.push(self.peek(0));
                self.pass(false);
            }
        }
        self.out.strings.push((line, inside));
    }

    /// At a single quote: `'x'` and `'\n'` are characters, `'a` is a lifetime.
    fn character_or_lifetime(&mut self) {
        if self.peek(1) != '\\' && self.peek(2) != '\'' {
            return self.pass(true);
        }
        self.pass(true);
        let escaped = self.peek(0) == '\\';
        self.pass(false);
        if escaped {
            self.pass(false);
        }
        while self.at < self.text.len() && self.peek(0) != '\'' && self.peek(0) != '\n' {
            self.pass(false);
        }
        self.pass(true);
    }
}
