//! Compiles RocketMQ's SQL92 filters by recursive descent, to operations in postfix order.

use super::instruction::{Comparison, Constant, Instruction, SearchPosition};
use super::lexer::{self, Token};
use super::syntax_error::SyntaxError;

/// The maximum number of operations of an expression. Each string in an `IN` list counts as one.
const MAX_OPERATIONS: usize = 4096;
/// The deepest nesting. The parser recurses once per level.
const MAX_DEPTH: usize = 100;
/// How many characters of an unexpected token an error quotes.
const MAX_QUOTED: usize = 40;

/// Compiles the expression at the start of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Instruction>, SyntaxError> {
    let mut parser = Parser { text, token: None, depth: 0, listed: 0, operations: Vec::new() };
    parser.advance()?;
    parser.or()?;
    Ok(parser.operations)
}

struct Parser<'a> {
    text: &'a str,
    token: Option<Token>,
    depth: usize,
    // The number of strings in all `IN` lists.
    listed: usize,
    operations: Vec<Instruction>,
}

/// The type of an operand, as far as it is known at compile time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    /// May be a number.
    Any,
    /// A constant that is not a number.
    NotNumber,
}

const ORDERINGS: [(&str, Comparison); 4] = [
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterOrEqual),
];

const SEARCHES: [(&str, SearchPosition); 3] = [
    ("CONTAINS", SearchPosition::Anywhere),
    ("STARTSWITH", SearchPosition::Start),
    ("ENDSWITH", SearchPosition::End),
];

impl Parser<'_> {
    fn advance(&mut self) -> Result<Option<Token>, SyntaxError> {
        let next = lexer::next(&mut self.text)?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn emit(&mut self, operation: Instruction) -> Result<Operand, SyntaxError> {
        self.operations.push(operation);
        self.check_size()?;
        Ok(Operand::Any)
    }

    fn check_size(&self) -> Result<(), SyntaxError> {
        if self.operations.len() + self.listed > MAX_OPERATIONS {
            return Err(SyntaxError(format!("it has more than {MAX_OPERATIONS} operations")));
        }
        Ok(())
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(&self.token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword))
    }

    /// Takes the next token if it is this keyword.
    fn keyword(&mut self, keyword: &str) -> Result<bool, SyntaxError> {
        let found = self.is_keyword(keyword);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes the next token if it is this operator or punctuation.
    fn symbol(&mut self, symbol: &str) -> Result<bool, SyntaxError> {
        let found = matches!(&self.token, Some(Token::Symbol(found)) if *found == symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, SyntaxError> {
        let found = self.token.as_ref().map_or("the end of the expression".to_owned(), |token| {
            let token = format!("{token:?}");
            match token.char_indices().nth(MAX_QUOTED) {
                Some((end, _)) => format!("{}...", &token[..end]),
                None => token,
            }
        });
        Err(SyntaxError(format!("expected {wanted}, found {found}")))
    }

    fn or(&mut self) -> Result<Operand, SyntaxError> {
        self.enter()?;
        let mut left = self.and()?;
        while self.keyword("OR")? {
            self.and()?;
            left = self.emit(Instruction::Or)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Operand, SyntaxError> {
        let mut left = self.equality()?;
        while self.keyword("AND")? {
            self.equality()?;
            left = self.emit(Instruction::And)?;
        }
        Ok(left)
    }

    fn equality(&mut self) -> Result<Operand, SyntaxError> {
        let mut left = self.comparison()?;
        loop {
            left = if self.symbol("=")? {
                self.comparison()?;
                self.emit(Instruction::Compare(Comparison::Equal))?
            } else if self.symbol("<>")? || self.symbol("!=")? {
                self.comparison()?;
                self.emit(Instruction::Compare(Comparison::NotEqual))?
            } else if self.keyword("IS")? {
                let not = self.keyword("NOT")?;
                if !self.keyword("NULL")? {
                    return self.unexpected("NULL");
                }
                self.emit(Instruction::IsNull)?;
                self.negate_if(not)?
            } else {
                return Ok(left);
            };
        }
    }

    fn comparison(&mut self) -> Result<Operand, SyntaxError> {
        let mut left = self.unary()?;
        'next: loop {
            for (symbol, comparison) in ORDERINGS {
                if self.symbol(symbol)? {
                    let right = self.unary()?;
                    check_orderable(&[left, right])?;
                    left = self.emit(Instruction::Compare(comparison))?;
                    continue 'next;
                }
            }
            // If none of these keywords follows NOT, the expression is complete, and NOT belongs to the ignored rest.
            let before = if self.is_keyword("NOT") { Some((self.text, self.token.clone())) } else { None };
            let negated = self.keyword("NOT")?;
            if self.keyword("BETWEEN")? {
                left = self.between(left, negated)?;
            } else if self.keyword("IN")? {
                let texts = self.texts()?;
                self.emit(Instruction::In(texts))?;
                left = self.negate_if(negated)?;
            } else if let Some(place) = self.place()? {
                let text = self.text()?;
                left = self.emit(Instruction::Search { place, text, negated })?;
            } else {
                if let Some(before) = before {
                    (self.text, self.token) = before;
                }
                return Ok(left);
            }
        }
    }

    fn between(&mut self, value: Operand, negated: bool) -> Result<Operand, SyntaxError> {
        let low = self.unary()?;
        if !self.keyword("AND")? {
            return self.unexpected("AND");
        }
        let high = self.unary()?;
        check_orderable(&[value, low, high])?;
        self.emit(Instruction::Between { negated })
    }

    /// Takes the next token if it is CONTAINS, STARTSWITH or ENDSWITH.
    fn place(&mut self) -> Result<Option<SearchPosition>, SyntaxError> {
        for (keyword, place) in SEARCHES {
            if self.keyword(keyword)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn text(&mut self) -> Result<String, SyntaxError> {
        match self.advance()? {
            Some(Token::Text(text)) => Ok(text),
            other => {
                self.token = other;
                self.unexpected("a string in quotes")
            }
        }
    }

    /// Parses the strings of an `IN` list, and sorts them.
    fn texts(&mut self) -> Result<Vec<String>, SyntaxError> {
        if !self.symbol("(")? {
            return self.unexpected("(");
        }
        let mut texts = Vec::new();
        loop {
            texts.push(self.text()?);
            self.listed += 1;
            self.check_size()?;
            if self.symbol(")")? {
                texts.sort_unstable();
                return Ok(texts);
            }
            if !self.symbol(",")? {
                return self.unexpected(", or )");
            }
        }
    }

    fn unary(&mut self) -> Result<Operand, SyntaxError> {
        self.enter()?;
        let operand = if self.keyword("NOT")? {
            // NOT has a lower precedence than comparisons: NOT n = 3 is NOT (n = 3).
            self.equality()?;
            self.emit(Instruction::Not)?
        } else if self.symbol("-")? {
            self.unary()?;
            self.emit(Instruction::Negate)?
        } else if self.symbol("+")? {
            self.unary()?
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(operand)
    }

    fn primary(&mut self) -> Result<Operand, SyntaxError> {
        if self.symbol("(")? {
            let inner = self.or()?;
            return if self.symbol(")")? { Ok(inner) } else { self.unexpected(")") };
        }
        for (keyword, constant) in
            [("TRUE", Constant::Bool(true)), ("FALSE", Constant::Bool(false)), ("NULL", Constant::Null)]
        {
            if self.keyword(keyword)? {
                self.emit(Instruction::Constant(constant))?;
                return Ok(Operand::NotNumber);
            }
        }
        match self.advance()? {
            Some(Token::Text(text)) => {
                self.emit(Instruction::Constant(Constant::Text(text)))?;
                Ok(Operand::NotNumber)
            }
            Some(Token::Integer(number)) => self.emit(Instruction::Constant(Constant::Integer(number))),
            Some(Token::Float(number)) => self.emit(Instruction::Constant(Constant::Float(number))),
            Some(Token::Word(name)) if !is_reserved(&name) => self.emit(Instruction::Property(name)),
            other => {
                self.token = other;
                self.unexpected("a value")
            }
        }
    }

    fn negate_if(&mut self, negated: bool) -> Result<Operand, SyntaxError> {
        if negated { self.emit(Instruction::Not) } else { Ok(Operand::Any) }
    }

    /// Enters a level of nesting.
    fn enter(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(SyntaxError("it is nested too deeply".to_owned())) } else { Ok(()) }
    }
}

fn is_reserved(word: &str) -> bool {
    let searches = SEARCHES.iter().map(|(keyword, _)| *keyword);
    let mut reserved = ["AND", "OR", "NOT", "BETWEEN", "IN", "IS"].into_iter().chain(searches);
    reserved.any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// Fails for operands of an ordering comparison that can't be numbers. Strings have no order in RocketMQ's expressions.
fn check_orderable(operands: &[Operand]) -> Result<(), SyntaxError> {
    if operands.contains(&Operand::NotNumber) {
        return Err(SyntaxError("<, <=, >, >= and BETWEEN compare numbers only".to_owned()));
    }
    Ok(())
}
