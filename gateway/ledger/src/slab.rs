//! Items under small numbers that stay the same while the item lives; freed numbers are used again.

#[derive(Clone, Debug)]
pub struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            items: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    pub fn insert(&mut self, item: T) -> u32 {
        if let Some(number) = self.free.pop() {
            if let Some(place) = self.items.get_mut(number as usize) {
                *place = Some(item);
            }
            return number;
        }
        self.items.push(Some(item));
        (self.items.len() - 1) as u32
    }

    pub fn get(&self, number: u32) -> Option<&T> {
        self.items.get(number as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.items.get_mut(number as usize)?.as_mut()
    }

    pub fn remove(&mut self, number: u32) -> Option<T> {
        let item = self.items.get_mut(number as usize)?.take();
        if item.is_some() {
            self.free.push(number);
        }
        item
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.items
            .iter()
            .enumerate()
            .filter_map(|(number, item)| Some((number as u32, item.as_ref()?)))
    }
}
