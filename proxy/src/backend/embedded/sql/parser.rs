use super::lexer::{self, Token};
use super::{Comparison, Constant, MAX_OPERATIONS, Operation, Place, SyntaxError};

/// The deepest nesting: the parser recurses once per level.
const MAX_DEPTH: usize = 100;
/// How much of an unexpected token an error quotes.
const MAX_QUOTED: usize = 40;

/// Compiles the expression that a text begins with.
pub(super) fn parse(text: &str) -> Result<Vec<Operation>, SyntaxError> {
    let mut parser = Parser { text, token: None, depth: 0, listed: 0, operations: Vec::new() };
    parser.advance()?;
    parser.or()?;
    Ok(parser.operations)
}

struct Parser<'a> {
    text: &'a str,
    token: Option<Token>,
    depth: usize,
    // The texts of all `IN` lists.
    listed: usize,
    operations: Vec<Operation>,
}

/// What is known of an operand before it is evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    /// It may be a number.
    Any,
    /// It is a constant, and not a number.
    NoNumber,
}

const ORDERS: [(&str, Comparison); 4] = [
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterOrEqual),
];

const PLACES: [(&str, Place); 3] =
    [("CONTAINS", Place::Anywhere), ("STARTSWITH", Place::Start), ("ENDSWITH", Place::End)];

impl Parser<'_> {
    fn advance(&mut self) -> Result<Option<Token>, SyntaxError> {
        let next = lexer::next(&mut self.text)?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn emit(&mut self, operation: Operation) -> Result<Operand, SyntaxError> {
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

    /// Takes the next token if it is this sign.
    fn sign(&mut self, sign: &str) -> Result<bool, SyntaxError> {
        let found = matches!(&self.token, Some(Token::Sign(found)) if *found == sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, SyntaxError> {
        let found = self.token.as_ref().map_or("the end".to_owned(), |token| {
            let token = format!("{token:?}");
            match token.char_indices().nth(MAX_QUOTED) {
                Some((end, _)) => format!("{}...", &token[..end]),
                None => token,
            }
        });
        Err(SyntaxError(format!("{wanted} is expected instead of {found}")))
    }

    fn or(&mut self) -> Result<Operand, SyntaxError> {
        self.enter()?;
        let mut left = self.and()?;
        while self.keyword("OR")? {
            self.and()?;
            left = self.emit(Operation::Or)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Operand, SyntaxError> {
        let mut left = self.equality()?;
        while self.keyword("AND")? {
            self.equality()?;
            left = self.emit(Operation::And)?;
        }
        Ok(left)
    }

    fn equality(&mut self) -> Result<Operand, SyntaxError> {
        let mut left = self.comparison()?;
        loop {
            left = if self.sign("=")? {
                self.comparison()?;
                self.emit(Operation::Compare(Comparison::Equal))?
            } else if self.sign("<>")? || self.sign("!=")? {
                self.comparison()?;
                self.emit(Operation::Compare(Comparison::NotEqual))?
            } else if self.keyword("IS")? {
                let not = self.keyword("NOT")?;
                if !self.keyword("NULL")? {
                    return self.unexpected("NULL");
                }
                self.emit(Operation::IsNull)?;
                self.negate_if(not)?
            } else {
                return Ok(left);
            };
        }
    }

    fn comparison(&mut self) -> Result<Operand, SyntaxError> {
        let mut left = self.unary()?;
        'next: loop {
            for (sign, comparison) in ORDERS {
                if self.sign(sign)? {
                    let right = self.unary()?;
                    check_ordered(&[left, right])?;
                    left = self.emit(Operation::Compare(comparison))?;
                    continue 'next;
                }
            }
            // A NOT that none of these keywords follows is what comes after a complete expression.
            let before = if self.is_keyword("NOT") { Some((self.text, self.token.clone())) } else { None };
            let negated = self.keyword("NOT")?;
            if self.keyword("BETWEEN")? {
                left = self.between(left, negated)?;
            } else if self.keyword("IN")? {
                let texts = self.texts()?;
                self.emit(Operation::In(texts))?;
                left = self.negate_if(negated)?;
            } else if let Some(place) = self.place()? {
                let text = self.text()?;
                left = self.emit(Operation::Search { place, text, negated })?;
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
        check_ordered(&[value, low, high])?;
        self.emit(Operation::Between { negated })
    }

    /// Takes the next token if it is the keyword of a search.
    fn place(&mut self) -> Result<Option<Place>, SyntaxError> {
        for (keyword, place) in PLACES {
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
                self.unexpected("a text")
            }
        }
    }

    /// The texts of an `IN`, sorted.
    fn texts(&mut self) -> Result<Vec<String>, SyntaxError> {
        if !self.sign("(")? {
            return self.unexpected("(");
        }
        let mut texts = Vec::new();
        loop {
            texts.push(self.text()?);
            self.listed += 1;
            self.check_size()?;
            if self.sign(")")? {
                texts.sort_unstable();
                return Ok(texts);
            }
            if !self.sign(",")? {
                return self.unexpected(", or )");
            }
        }
    }

    fn unary(&mut self) -> Result<Operand, SyntaxError> {
        self.enter()?;
        let operand = if self.keyword("NOT")? {
            // NOT binds less than a comparison does: NOT n = 3 is NOT (n = 3).
            self.equality()?;
            self.emit(Operation::Not)?
        } else if self.sign("-")? {
            self.unary()?;
            self.emit(Operation::Negate)?
        } else if self.sign("+")? {
            self.unary()?
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(operand)
    }

    fn primary(&mut self) -> Result<Operand, SyntaxError> {
        if self.sign("(")? {
            let inner = self.or()?;
            return if self.sign(")")? { Ok(inner) } else { self.unexpected(")") };
        }
        for (keyword, constant) in
            [("TRUE", Constant::Bool(true)), ("FALSE", Constant::Bool(false)), ("NULL", Constant::Null)]
        {
            if self.keyword(keyword)? {
                self.emit(Operation::Constant(constant))?;
                return Ok(Operand::NoNumber);
            }
        }
        match self.advance()? {
            Some(Token::Text(text)) => {
                self.emit(Operation::Constant(Constant::Text(text)))?;
                Ok(Operand::NoNumber)
            }
            Some(Token::Integer(number)) => self.emit(Operation::Constant(Constant::Integer(number))),
            Some(Token::Float(number)) => self.emit(Operation::Constant(Constant::Float(number))),
            Some(Token::Word(name)) if !is_reserved(&name) => self.emit(Operation::Property(name)),
            other => {
                self.token = other;
                self.unexpected("a value")
            }
        }
    }

    fn negate_if(&mut self, negated: bool) -> Result<Operand, SyntaxError> {
        if negated { self.emit(Operation::Not) } else { Ok(Operand::Any) }
    }

    /// Begins a level of nesting.
    fn enter(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(SyntaxError("it is nested too deeply".to_owned())) } else { Ok(()) }
    }
}

fn is_reserved(word: &str) -> bool {
    let searches = PLACES.iter().map(|(keyword, _)| *keyword);
    let mut reserved = ["AND", "OR", "NOT", "BETWEEN", "IN", "IS"].into_iter().chain(searches);
    reserved.any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// Texts have no order in RocketMQ's expressions.
fn check_ordered(operands: &[Operand]) -> Result<(), SyntaxError> {
    if operands.contains(&Operand::NoNumber) {
        return Err(SyntaxError("only numbers can be less or greater".to_owned()));
    }
    Ok(())
}
